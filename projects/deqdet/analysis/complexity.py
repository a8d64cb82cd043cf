"""Cost of each part of a detector: multiply-adds, parameters and memory."""

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Tuple

import torch
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

# FlopCounterMode counts a multiply-add as two.
_PER_MULTIPLY_ADD = 2
# Operators that multiply two activations.
_PRODUCTS = ('aten.bmm', 'aten.baddbmm', 'aten._scaled_dot_product')


@dataclass(frozen=True)
class Cost:
    """Cost of one part for one image.

    Attributes:
        layers (float): 1e9 multiply-adds of convolutions and linear layers, as in the paper's tables.
        products (float): 1e9 multiply-adds that module counters miss: products of two activations (mixing,
            attention) and the projections inside attention.
        parameters (int): Number of parameters.
        memory (float): Peak of activations in MB (1e6 bytes), without gradient.
        modules (dict[str, tuple]): ``(layers, products)`` of each submodule, by its name in the part.
    """

    layers: float
    products: float
    parameters: int
    memory: float
    modules: Dict[str, Tuple[float, float]] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """All multiply-adds, in 1e9."""
        return self.layers + self.products


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all tensors that are created inside and alive at the same time.

    They are counted by tensors, so the result is the same on every device and machine.

    ::

        with PeakMemory() as memory:
            ...
        memory.peak

    Attributes:
        peak (int): Largest number of bytes at any time, without the internal memory of operators.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run an operator and record the storages of its results."""
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self._alive[storage] = storage.nbytes()
        self.peak = max(self.peak, sum(self._alive.values()))
        return out


@torch.no_grad()
def cost_of(model: BaseModel, shape: Tuple[int, int]) -> Dict[str, Cost]:
    """Measure the cost of each part of a detector by running it on one image.

    Sampling, norms and activations are not counted (a module counter would count a few additions for each of
    their values). The model is in eval mode afterwards.

    Args:
        model (BaseModel): A detector whose ``roi_head`` has a ``fixed_point_problem``.
        shape (tuple[int, int]): (height, width) of the network's input in pixels.

    Returns:
        dict[str, Cost]: ``backbone``, ``neck``, ``initialisation`` (the initialisation layer, and the work
            that is done once for all steps), ``refinement`` (one application), and with masks ``mask head``:
            the last one, for ``max_per_img`` detections whose boxes are as large as the image.
    """
    model.eval()
    images = torch.zeros(1, 3, *shape, device=next(model.parameters()).device)
    sample = DetDataSample(metainfo=dict(
        img_shape=shape, batch_input_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0), pad_shape=shape))
    head = model.roi_head
    costs = {}
    costs['backbone'], features = cost_of_call(model.backbone, model.backbone, images)
    costs['neck'], features = cost_of_call(model.neck, model.neck, features)
    proposals = model.rpn_head.predict(features, [sample])
    layers = head.bbox_head
    costs['initialisation'], (start, step) = cost_of_call(
        layers[0] if len(layers) > 1 else nn.Identity(), head.fixed_point_problem, features, proposals,
        [sample])
    costs['refinement'], state = cost_of_call(layers[-1], step, start)
    if head.with_mask:
        mask_head = head.mask_head[-1]
        costs['mask head'], _ = cost_of_call(
            mask_head, _masks, mask_head, features, state, sample.metainfo, head.prediction)
    return costs


def _masks(mask_head, features, state, meta, settings):
    """Masks of the largest number of detections."""
    queries, classes = state.logits.shape[-2:]
    query = torch.arange(min(settings.max_per_img, queries * classes), device=state.content.device) % queries
    height, width = meta['img_shape']
    box = state.content.new_tensor([0, 0, width, height]).expand(len(query), 4)
    return mask_head.predict(features, state.content[0, query], box, torch.zeros_like(query), meta,
                             rescale=False, threshold=settings.mask_thr_binary)


def total_of(costs: Dict[str, Cost], refinements: float) -> Tuple[float, float]:
    """Layers and products of a prediction with this number of refinements, see :func:`cost_of`."""
    return tuple(sum(getattr(cost, kind) for part, cost in costs.items() if part != 'refinement')
                 + refinements * getattr(costs['refinement'], kind)
                 for kind in ('layers', 'products'))


def cost_of_call(module: nn.Module, function: Callable, *args: Any) -> Tuple[Cost, Any]:
    """The cost of a call, and its result.

    Args:
        module (nn.Module): The module that the function runs.
        function (Callable): What to run.
        *args: Its arguments.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the counter cannot see inside this fused operator
    try:
        with PeakMemory() as memory, FlopCounterMode(display=False) as counter:
            out = function(*args)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    counts = _by_module(counter.get_flop_counts(), module)
    layers, products = counts.pop('Global', (0.0, 0.0))
    parameters = sum(p.numel() for p in module.parameters())
    return Cost(layers, products, parameters=parameters, memory=memory.peak / 1e6, modules=counts), out


def _by_module(flops, module):
    """``(layers, products)`` of each module in 1e9 multiply-adds, from the counts of operators."""
    # Attention calls its projections as functions, so hooks of layers do not see them.
    attention = [f'{type(module).__name__}.{name}' for name, child in module.named_modules()
                 if isinstance(child, nn.MultiheadAttention)]

    def projections(name):
        return sum(count for operator, count in flops[name].items() if not _is_product(operator))

    counts = {}
    for name, operators in flops.items():
        products = sum(count for operator, count in operators.items() if _is_product(operator))
        products += sum(projections(other) for other in attention if other in flops
                        and (name == 'Global' or f'{other}.'.startswith(f'{name}.')))
        layers = sum(operators.values()) - products
        counts[name] = (layers / _PER_MULTIPLY_ADD / 1e9, products / _PER_MULTIPLY_ADD / 1e9)
    return counts


def _is_product(operator):
    return str(operator).startswith(_PRODUCTS)
