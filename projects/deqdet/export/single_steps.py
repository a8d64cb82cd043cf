"""Comparison of a file with its detector, one application of a layer at a time.

After training the equilibrium attracts: differences of rounding shrink along the path, and the detections of
file and detector can be compared. With random weights the differences grow about threefold per step, until
two correct computations differ completely: PyTorch differs from itself as much if it sums in another order.
So each step of the file is compared with PyTorch's step from the same state. This shows any error of the
graph, and rounding cannot grow along a path.
"""

from typing import TYPE_CHECKING, Any, Callable, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor

from ..model.sampling import GridPyramid
from ..model.state import DecoderState
from .agreement import (
    BOX_LIMIT,
    SCORE_LIMIT,
    Detections,
    compare_detections,
    detections_of,
    exported_settings,
    fixed_shape,
    open_file,
    outputs_of,
    prepare,
    session_inputs,
    worst,
)
from .joining import trace_outputs
from .recording import OUTPUTS, size_divisor

if TYPE_CHECKING:
    import onnx

#: Largest allowed differences: of features after the whole backbone, relative to their length, and of one
#: application of a decoder layer, see :func:`state_difference`.
FEATURE_LIMIT, STEP_LIMIT = 1e-4, 3e-5
#: Where rounding grows, the difference of a file from PyTorch may be this many times PyTorch's difference
#: from itself. The file may differ more, because its backbone rounds differently too.
_ROOM = 10
#: From this growth on, rounding grows along the path. On a path that converges, the growth is below ten.
_GROWTH = 100


class Trace(NamedTuple):
    """Intermediate results of a file, and its detections.

    Attributes:
        features (list[Tensor]): L maps, has shape (B, C_f, H_l, W_l).
        states (list[DecoderState]): y_0, and the output of each refinement.
        detections (list[tuple]): Boxes, scores and labels of each image.
    """

    features: List[Tensor]
    states: List[DecoderState]
    detections: List[Detections]


class TracedFile:
    """A file that also outputs its features and states.

    Args:
        model (onnx.ModelProto): Result of :func:`join_parts` with ``traced``, for a deep equilibrium.

    Raises:
        UsageError: If onnxruntime cannot open it.
    """

    def __init__(self, model: 'onnx.ModelProto') -> None:
        self.session = open_file(model.SerializeToString())
        #: Height and width of its images; None if the file takes any size.
        self.shape = fixed_shape(self.session)

    def run(self, images: Sequence[np.ndarray], *, divisor: int, steps: int) -> Trace:
        """Run the file on a batch; for the arguments see :func:`run_file`."""
        inputs = session_inputs(self.session, images, divisor, steps)
        names = [output.name for output in self.session.get_outputs()]
        found = dict(zip(names, self.session.run(names, inputs)))
        features, start, path = (
            [torch.from_numpy(found[name]) for name in group]
            for group in trace_outputs(sum(name.startswith('front/feature_') for name in names)))
        return Trace(features, [DecoderState(*start), *(DecoderState(*parts) for parts in zip(*path))],
                     list(zip(*(found[name] for name in outputs_of(self.session)))))


class SingleSteps(NamedTuple):
    """Largest differences between file and PyTorch in single computations from the same values.

    Attributes:
        features (float): Difference of a feature level, relative to its length.
        start (float): Difference of y_0 from the file's features, see :func:`state_difference`.
        refinement (float): The same of one refinement of the file's states.
        selection (float): Difference of the boxes selected from the file's last state, in pixels.
        masks (float): Difference of probabilities in their masks; 0 without masks.
        ran (int): Number of refinements that the file ran.
        asked (int): Number of refinements that it should run.
    """

    features: float
    start: float
    refinement: float
    selection: float
    masks: float
    ran: int
    asked: int

    @property
    def good(self) -> bool:
        """All differences are within their limits, and not NaN."""
        return (self.features <= FEATURE_LIMIT and self.start <= STEP_LIMIT
                and self.refinement <= STEP_LIMIT and self.selection <= BOX_LIMIT
                and self.masks <= SCORE_LIMIT
                and self.ran == self.asked)

    def __str__(self) -> str:
        if self.ran != self.asked:
            return f'it runs {self.ran} refinements, not {self.asked}'
        return (f'relative differences from the same values: features {self.features:.2g}, initialisation '
                f'{self.start:.2g}, each of {self.ran} refinements {self.refinement:.2g}'
                + (f', masks {self.masks:.2g}' if self.masks else ''))


class Growth(NamedTuple):
    """Differences of rounding at the end of the path, by query: of boxes in pixels, and of scores.

    Attributes:
        file (tuple[float, float]): Difference between the file and PyTorch.
        own (tuple[float, float]): Difference between PyTorch and itself with another sampling back end.
        first (tuple[float, float]): The latter after one refinement.
    """

    file: Tuple[float, float]
    own: Tuple[float, float]
    first: Tuple[float, float]

    @property
    def explains(self) -> bool:
        """Rounding grows along the path in PyTorch itself, and the file does not differ much more."""
        # The rounding of one refinement is at least this, even if one batch shows less.
        grown = max(own / max(first, least) for own, first, least in zip(self.own, self.first, (1e-5, 1e-7)))
        return grown >= _GROWTH and all(file <= _ROOM * own for file, own in zip(self.file, self.own))

    def __str__(self) -> str:
        return (f'the file differs from PyTorch by {self.file[0]:.2g} px and {self.file[1]:.2g} in scores, '
                f'two ways of sampling in PyTorch by {self.own[0]:.2g} px and {self.own[1]:.2g}')


@torch.no_grad()
def compare_steps(traced: TracedFile, model: BaseModel, batches: Sequence[Sequence[np.ndarray]], *,
                  steps: int) -> SingleSteps:
    """Compare each step on the path of a file with PyTorch.

    Args:
        traced (TracedFile): The file.
        model (BaseModel): The detector in eval mode.
        batches (Sequence): Batches of images, RGB, uint8, has shape (H_i, W_i, 3).
        steps (int): Steps of the refinement, without the final one.

    Returns:
        SingleSteps: The largest differences over all batches.
    """
    found = []
    for images in batches:
        trace = traced.run(images, divisor=size_divisor(model), steps=steps)
        found.append(_single_steps(model, trace, *_beginning(model, images, traced.shape)[:2]))
    count = next((each.ran for each in found if each.ran != steps + 1), steps + 1)
    features, start, refinement, selection, masks = _largest(each[:5] for each in found)
    return SingleSteps(features, start, refinement, selection, masks, ran=count, asked=steps + 1)


@torch.no_grad()
def compare_paths(traced: TracedFile, model: BaseModel, batches: Sequence[Sequence[np.ndarray]], *,
                  steps: int) -> Growth:
    """Compare the ends of whole paths: of the file, of PyTorch, and of PyTorch with another sampling.

    The arguments are those of :func:`compare_steps`; the result has the largest differences over all batches.
    """
    head, found = model.roi_head, []
    for images in batches:
        trace = traced.run(images, divisor=size_divisor(model), steps=steps)
        features, proposals, samples = _beginning(model, images, traced.shape)
        another = 'rows' if isinstance(head.pyramid(features), GridPyramid) else 'grid'
        ends = []
        for form in (head.sampling, another):
            for count in (steps, 0):
                ends.append(head.decode(
                    head.pyramid(features, form), head.initial_state(proposals), samples,
                    settings=exported_settings(head, count)))
        expected, first, other, other_first = ends
        found.append((_distances(trace.states[-1], expected), _distances(other, expected),
                      _distances(other_first, first)))
    return Growth(*_largest(found))


@torch.no_grad()
def compare_program(program: Callable, model: BaseModel, images: Sequence[np.ndarray], *,
                    shape: Optional[Tuple[int, int]] = None) -> float:
    """Compare a recorded refinement layer with PyTorch in two applications after the initialisation layer.

    Args:
        program (Callable): ``module()`` of the result of :func:`record_refinement`.
        model (BaseModel): The detector in eval mode.
        images (Sequence[np.ndarray]): RGB, uint8, has shape (H_i, W_i, 3).
        shape (tuple[int, int], optional): Height and width of the batch, if the program has a fixed size.

    Returns:
        float: The larger difference of the two applications, see :func:`state_difference`.
    """
    head = model.roi_head
    features, proposals, _ = _beginning(model, images, shape)
    pyramid = head.pyramid(features)
    state, far = head.initialise(pyramid, head.initial_state(proposals)), []
    for _ in range(2):
        found = DecoderState(*program(list(features), *state[:3]))
        state = head.apply_layer(-1, pyramid, state)
        far.append(state_difference(found, state))
    return float(np.max(far))


def state_difference(found: DecoderState, expected: DecoderState) -> float:
    """Largest difference between two states over queries and parts.

    Coordinates of position and box are relative to the largest one of the query (at least 1), contents to
    their length; scores are absolute.

    Args:
        found, expected (DecoderState): States of the same queries; without logits scores are not compared.

    Returns:
        float: 0 if the states are equal, NaN if a value is NaN.
    """
    parts: List[Tensor] = []
    for one, two in ((found.position, expected.position), (found.box, expected.box)):
        parts.append((one - two).abs().amax(-1) / two.abs().amax(-1).clamp(min=1))
    length = torch.linalg.vector_norm(expected.content, dim=-1)
    parts.append(torch.linalg.vector_norm(found.content - expected.content, dim=-1) / length)
    if found.logits is not None and expected.logits is not None:
        parts.append((found.logits.sigmoid() - expected.logits.sigmoid()).abs().amax(-1))
    return torch.stack(parts).max().item()


def _beginning(model, images, shape) -> tuple:
    """Features, proposals and samples of a batch, by mmdet's functions."""
    inputs, samples = prepare(model, images, shape)
    features = model.extract_feat(inputs)
    return features, model.rpn_head.predict(features, samples), samples


def _single_steps(model, trace: Trace, features, proposals) -> SingleSteps:
    head = model.roi_head
    far = [(torch.linalg.vector_norm(one - two) / torch.linalg.vector_norm(two)).item()
           for one, two in zip(trace.features, features)]
    # Uses the normal functions of mmdet and the plugin, not the recorded form.
    pyramid = head.pyramid(trace.features)
    start = state_difference(trace.states[0], head.initialise(pyramid, head.initial_state(proposals)))
    refinements = [state_difference(after, head.apply_layer(-1, pyramid, before._replace(logits=None)))
                   for before, after in zip(trace.states, trace.states[1:])]
    last = trace.states[-1]
    masks = len(trace.detections[0]) > len(OUTPUTS)
    expected = detections_of(head, trace.features, last, masks=masks)
    selected = worst(compare_detections(found, each) for found, each in zip(trace.detections, expected))
    return SingleSteps(float(np.max(far)), start, float(np.max(refinements)), selected.boxes,
                       selected.masks or 0.0, ran=len(refinements), asked=len(refinements))


def _distances(found: DecoderState, expected: DecoderState) -> Tuple[float, float]:
    """Largest difference of a query's box in pixels, and of its scores."""
    assert found.logits is not None and expected.logits is not None
    return ((found.box - expected.box).abs().max().item(),
            (found.logits.sigmoid() - expected.logits.sigmoid()).abs().max().item())


def _largest(rows: Iterable[Any]) -> List[Any]:
    """The largest value at each place of the rows; NaN counts as the largest, unlike in Python's max."""
    return np.array(list(rows), dtype=float).max(0).tolist()
