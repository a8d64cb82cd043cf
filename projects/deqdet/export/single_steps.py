"""A file against its detector, one application of a layer at a time.

Where the equilibrium attracts, as training makes it, differences of rounding shrink along the path, and the
detections of file and detector can be compared. With random weights they grow about threefold a step, until
two right computations have nothing in common: PyTorch differs from itself as much when it sums in another
order. So each step of the file is compared with what PyTorch makes of the same state. That shows any error of
the graph, and rounding has no path to grow along.
"""

from typing import Callable, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor

from ..model.sampling import GridPyramid
from ..model.state import DecoderState
from .agreement import BOX_LIMIT, compare_detections, exported_settings, prepare, worst
from .recording import size_divisor
from .tracing import Trace, TracedFile

#: What features may differ by, relative to their length, after all layers of a backbone; and what one
#: application of a decoder layer may, see :func:`state_difference`.
FEATURE_LIMIT, STEP_LIMIT = 1e-4, 3e-5
#: How much further from PyTorch than PyTorch itself a file may be where rounding grows. Its backbone rounds
#: otherwise, too, which the comparison of PyTorch with itself has not.
_ROOM = 10
#: From which growth on a path counts as one that expands rounding. Along a path that settles it stays below
#: ten.
_GROWTH = 100


class SingleSteps(NamedTuple):
    """Largest differences of one computation from the same values.

    Attributes:
        features (float): Of a level, relative to its length.
        start (float): Of y_0 made of the file's features, see :func:`state_difference`.
        refinement (float): Of a refinement of the file's state, likewise.
        selection (float): Of the boxes selected from the file's last state, in pixels.
        ran (int): Refinements that the file ran.
        asked (int): Refinements that it should run.
    """

    features: float
    start: float
    refinement: float
    selection: float
    ran: int
    asked: int

    @property
    def good(self) -> bool:
        """All are within their limits, and numbers."""
        return (self.features <= FEATURE_LIMIT and self.start <= STEP_LIMIT
                and self.refinement <= STEP_LIMIT and self.selection <= BOX_LIMIT
                and self.ran == self.asked)

    def __str__(self) -> str:
        if self.ran != self.asked:
            return f'it runs {self.ran} refinements, not {self.asked}'
        return (f'relative differences from the same values: features {self.features:.2g}, initialisation '
                f'{self.start:.2g}, each of {self.ran} refinements {self.refinement:.2g}')


class Growth(NamedTuple):
    """What rounding has become at the end of the path, by query.

    Attributes:
        boxes, scores (float): Of the file from PyTorch: pixels, and scores.
        own_boxes, own_scores (float): Of PyTorch from itself, when it samples features another way.
        first_boxes, first_scores (float): The same after one refinement.
    """

    boxes: float
    scores: float
    own_boxes: float
    own_scores: float
    first_boxes: float
    first_scores: float

    @property
    def explains(self) -> bool:
        """PyTorch's own rounding grows along the path, and the file is not much further from it than that."""
        # What one refinement rounds is no less than this, whatever one batch shows.
        grown = max(self.own_boxes / max(self.first_boxes, 1e-5),
                    self.own_scores / max(self.first_scores, 1e-7))
        return (grown >= _GROWTH and self.boxes <= _ROOM * self.own_boxes
                and self.scores <= _ROOM * self.own_scores)

    def __str__(self) -> str:
        return (f'the file differs by {self.boxes:.2g} px and {self.scores:.2g} in scores, PyTorch from '
                f'itself, sampling another way, by {self.own_boxes:.2g} px and {self.own_scores:.2g}')


@torch.no_grad()
def compare_steps(traced: TracedFile, model: BaseModel, batches: Sequence[Sequence[np.ndarray]], *,
                  steps: int) -> SingleSteps:
    """Follow a file along its path, one step at a time.

    Args:
        traced (TracedFile): The file.
        model (BaseModel): The detector in eval mode.
        batches (Sequence): Batches of images, RGB, uint8, has shape (H_i, W_i, 3).
        steps (int): Steps of the refinement; one more is run.

    Returns:
        SingleSteps: The largest differences of all batches.
    """
    found = []
    for images in batches:
        trace = traced.run(images, divisor=size_divisor(model), steps=steps)
        found.append(_single_steps(model, trace, *_beginning(model, images, traced.shape)))
    count = next((each.ran for each in found if each.ran != steps + 1), steps + 1)
    features, start, refinement, selection = _largest(each[:4] for each in found)
    return SingleSteps(features, start, refinement, selection, ran=count, asked=steps + 1)


@torch.no_grad()
def compare_paths(traced: TracedFile, model: BaseModel, batches: Sequence[Sequence[np.ndarray]], *,
                  steps: int) -> Growth:
    """How far apart the ends of the whole path are: of the file, and of PyTorch in another form.

    Args:
        traced, model, batches, steps: See :func:`compare_steps`.

    Returns:
        Growth: The largest differences of all batches.
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
        found.append((*_distances(trace.states[-1], expected), *_distances(other, expected),
                      *_distances(other_first, first)))
    return Growth(*_largest(found))


@torch.no_grad()
def compare_program(program: Callable, model: BaseModel, images: Sequence[np.ndarray], *,
                    shape: Optional[Tuple[int, int]] = None) -> float:
    """The refinement layer as a program, applied twice after the initialisation layer.

    Args:
        program (Callable): ``module()`` of what :func:`record_refinement` recorded.
        model (BaseModel): The detector in eval mode.
        images (Sequence[np.ndarray]): RGB, uint8, has shape (H_i, W_i, 3).
        shape (tuple[int, int], optional): Height and width of the batch, where the program has fixed ones.

    Returns:
        float: The larger difference of an application, see :func:`state_difference`.
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
    """How far a state is from another, the worst query and part of it counting.

    Coordinates of position and box are relative to the largest of the query (at least 1), contents to their
    length; scores are as they are.

    Args:
        found, expected (DecoderState): States of the same queries; without logits scores do not count.

    Returns:
        float: 0 where they are equal. NaN where something is no number.
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
    """Features, proposals and samples of a batch, in mmdet's own way."""
    inputs, samples = prepare(model, images, shape)
    features = model.extract_feat(inputs)
    return features, model.rpn_head.predict(features, samples), samples


def _single_steps(model, trace: Trace, features, proposals, samples) -> SingleSteps:
    head = model.roi_head
    far = [(torch.linalg.vector_norm(one - two) / torch.linalg.vector_norm(two)).item()
           for one, two in zip(trace.features, features)]
    # mmdet's and the plugin's own way to do it, not the form that was recorded.
    pyramid = head.pyramid(trace.features)
    start = state_difference(trace.states[0], head.initialise(pyramid, head.initial_state(proposals)))
    refinements = [state_difference(after, head.apply_layer(-1, pyramid, before._replace(logits=None)))
                   for before, after in zip(trace.states, trace.states[1:])]
    last = trace.states[-1]
    assert last.logits is not None
    selected = worst(
        compare_detections(found, (each.bboxes.numpy(), each.scores.numpy(), each.labels.numpy()))
        for found, each in zip(trace.detections, (
            head.select(logits, box, sample.metainfo, False, settings=exported_settings(head, 0))
            for logits, box, sample in zip(last.logits, last.box, samples))))
    return SingleSteps(float(np.max(far)), start, float(np.max(refinements)), selected.boxes,
                       ran=len(refinements), asked=len(refinements))


def _distances(found: DecoderState, expected: DecoderState) -> Tuple[float, float]:
    """Largest difference of a query's box in pixels, and of its scores."""
    assert found.logits is not None and expected.logits is not None
    return ((found.box - expected.box).abs().max().item(),
            (found.logits.sigmoid() - expected.logits.sigmoid()).abs().max().item())


def _largest(rows: Iterable[Sequence[float]]) -> List[float]:
    """The largest of each column; NaN is the worst, which Python's max does not know."""
    return np.array(list(rows), dtype=float).max(0).tolist()
