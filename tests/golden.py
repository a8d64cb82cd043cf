"""Reference cases: tensors computed once on a CPU with the official model code.

A case is a folder with ``case.json`` (model config, seed), ``state_dict.pt`` (without the keys that
``tied`` in ``case.json`` names), ``inputs.pt``, ``expected.pt`` in float32 and ``expected64.pt`` in float64.
Other cases of the same form are run by pointing DEQDET_GOLDEN to their folder.
"""

import copy
import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

FOLDER = Path(os.environ.get('DEQDET_GOLDEN', Path(__file__).parent / 'data' / 'golden'))
HEADS = ('DEQDetRoIHead', 'FFNDetRoIHead', 'DEQ_SparseRoIHead')

# What becomes of one rounding to float32 is measured in float64, see `growth`. Float32 rounds at every
# operation, and sums in another order on another processor: the official code and ours are 0 to 4.3 times as
# far from float64, or from each other, with AVX-512, AVX2 and no vectors at all.
ROUNDING = 2.0 ** -24
MULTIPLE = 32


@dataclass(frozen=True, eq=False)
class Case:
    """A reference case.

    Attributes:
        config (dict): ``case.json``.
        state_dict (dict[str, Tensor]): Weights.
        inputs (dict): Images and ground truth.
        expected (dict[str, Tensor]): What the official code gave in float32.
        expected64 (dict[str, Tensor], optional): What it gave in float64.
    """

    config: dict
    state_dict: dict
    inputs: dict
    expected: dict
    expected64: dict | None

    @classmethod
    @functools.cache
    def load(cls, name):
        """Read the case of this name, once."""
        tensors = [torch.load(FOLDER / name / f'{part}.pt', weights_only=True)
                   for part in ('state_dict', 'inputs', 'expected')]
        double = FOLDER / name / 'expected64.pt'
        tensors.append(torch.load(double, weights_only=True) if double.exists() else None)
        return cls(json.loads((FOLDER / name / 'case.json').read_text()), *tensors)

    def model_config(self):
        """A fresh copy of the detector's config: building a detector changes its config."""
        return ConfigDict(json.loads(json.dumps(self.config['model'])))

    def build(self, dtype=torch.float32):
        """The detector with the reference weights, in training mode."""
        from mmdet.registry import MODELS
        model = MODELS.build(self.model_config())
        tied = {key: self.state_dict[other] for key, other in self.config.get('tied', {}).items()}
        model.load_state_dict({**self.state_dict, **tied}, strict=True)
        return model.to(dtype)

    def batch(self, model):
        """Images and samples in the model's precision, through its own preprocessor."""
        from mmdet.structures import DetDataSample
        dtype = next(model.parameters()).dtype
        samples = []
        for i, _ in enumerate(self.inputs['images']):
            sample = DetDataSample(metainfo=dict(
                img_shape=tuple(self.inputs['img_shapes'][i]),
                ori_shape=tuple(self.inputs['ori_shapes'][i]),
                scale_factor=tuple(self.inputs['scale_factors'][i]), img_path=f'image_{i}.png'))
            sample.gt_instances = InstanceData(
                bboxes=self.inputs['gt_bboxes'][i].to(dtype), labels=self.inputs['gt_labels'][i])
            samples.append(sample)
        return model.data_preprocessor(
            dict(inputs=list(self.inputs['images']), data_samples=samples), training=True)


def case_names(heads=HEADS):
    """Names of the cases whose decoder head is one of these."""
    return sorted(path.parent.name for path in FOLDER.glob('*/case.json') if _head(path).get('type') in heads)


def reason_to_skip(name):
    """Why a case cannot be run, or None."""
    if _head(FOLDER / name / 'case.json').get('mask_head'):
        return 'instance masks are not supported'
    return None


def _head(path):
    # A case of another part, such as of a mask head alone, has no model.
    return json.loads(path.read_text()).get('model', {}).get('roi_head', {})


def relative_error(actual, expected):
    """L2 norm of the difference relative to the norm of what is expected."""
    actual, expected = actual.detach().double(), expected.detach().double().reshape(actual.shape)
    return float((actual - expected).norm() / expected.norm().clamp(min=1e-6))


def growth(compute, model, tensors, draws=3):
    """How far results move when weights and inputs are rounded, in double precision.

    Args:
        compute (Callable): ``(model, tensors) -> dict[str, Tensor]``.
        model (nn.Module): In float64.
        tensors (list[Tensor]): Inputs in float64.
        draws (int): Random roundings to try.

    Returns:
        dict[str, float]: Largest relative change of each result, not less than one rounding.
    """
    exact, largest = compute(model, tensors), {}
    for draw in range(draws):
        generator = torch.Generator().manual_seed(draw)

        def rounded(tensor, generator=generator):
            noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            return tensor * (1 + ROUNDING * noise)

        disturbed = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in disturbed.parameters():
                parameter.copy_(rounded(parameter))
        found = compute(disturbed, [rounded(tensor) for tensor in tensors])
        for name, value in found.items():
            largest[name] = max(largest.get(name, ROUNDING), relative_error(value, exact[name]))
    return largest
