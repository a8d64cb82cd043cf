"""Comparison of an exported file with its detector."""

from typing import TYPE_CHECKING, Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel

from ..errors import UsageError, first_line
from ..model.heads import PredictionSettings
from ..model.selection import select_queries
from ..model.state import AnyState
from .masks import probabilities
from .recording import MASKS, OUTPUTS, size_divisor

if TYPE_CHECKING:
    import onnxruntime

#: Largest allowed differences: of boxes in pixels of the network's input, of scores, and of probabilities in
#: masks. A mask changes if its box moves.
BOX_LIMIT, SCORE_LIMIT, MASK_LIMIT = 0.1, 1e-3, 0.01

#: Boxes, scores and labels of an image, and with masks the maps.
Detections = Tuple[np.ndarray, ...]


class Agreement(NamedTuple):
    """Largest differences between a file and its detector.

    Attributes:
        images (int): Number of compared images.
        boxes (float): Difference of coordinates, in pixels of the network's input; infinite if a detection
            has no partner.
        scores (float): Difference of the sorted scores.
        masks (float, optional): Difference of probabilities in masks; None without masks.
    """

    images: int
    boxes: float
    scores: float
    masks: Optional[float] = None

    @property
    def good(self) -> bool:
        """All differences are within their limits, and not NaN."""
        return (self.boxes <= BOX_LIMIT and self.scores <= SCORE_LIMIT
                and (self.masks is None or self.masks <= MASK_LIMIT))

    def __str__(self) -> str:
        masks = '' if self.masks is None else f', masks within {self.masks:.2g}'
        return (f'{self.images} images, boxes within {self.boxes:.2g} px, scores within {self.scores:.2g}'
                f'{masks}')


def open_file(path: Union[str, bytes]) -> 'onnxruntime.InferenceSession':
    """Open a file with onnxruntime, on the CPU, with as many threads as torch uses.

    Args:
        path (str or bytes): The file, or its content.

    Raises:
        UsageError: If onnxruntime cannot open it.
    """
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # onnxruntime's errors have no narrower common class
        name = path if isinstance(path, str) else 'the file'
        raise UsageError(f'{name} cannot be opened with onnxruntime {onnxruntime.__version__} '
                         f'({first_line(error)[:300]})', 'export-unsupported') from error


def inputs_of(images: Sequence[np.ndarray], divisor: int, shape: Optional[Tuple[int, int]] = None
              ) -> Dict[str, np.ndarray]:
    """Images as inputs of a file.

    Args:
        images (Sequence[np.ndarray]): RGB, uint8, of any sizes, has shape (H_i, W_i, 3).
        divisor (int): Height and width of the batch are multiples of it.
        shape (tuple[int, int], optional): Height and width of the batch, if the file has a fixed size.

    Returns:
        dict[str, np.ndarray]: ``images``, float32, has shape (B, 3, H, W), and ``sizes``, int64, has shape
        (B, 2).
    """
    sizes = np.array([image.shape[:2] for image in images], dtype=np.int64)
    height, width = shape or padded_shape(images, divisor)
    batch = np.zeros((len(images), 3, height, width), dtype=np.float32)
    for place, image in zip(batch, images):
        place[:, :image.shape[0], :image.shape[1]] = image.transpose(2, 0, 1)
    return dict(images=batch, sizes=sizes)


def padded_shape(images: Sequence[np.ndarray], divisor: int) -> Tuple[int, int]:
    """Height and width of a batch for a file that takes any size, see :func:`inputs_of`."""
    height, width = (-(-max(sides) // divisor) * divisor
                     for sides in zip(*(image.shape[:2] for image in images)))
    return height, width


def compare_batch(session: 'onnxruntime.InferenceSession', model: BaseModel, images: Sequence[np.ndarray], *,
                  steps: int) -> Agreement:
    """Compare a file with its detector on a batch.

    Args:
        session (onnxruntime.InferenceSession): The file.
        model, images: See :func:`predict`.
        steps (int): Steps of the refinement; also an input of a file with ``steps``.
    """
    found = run_file(session, images, divisor=size_divisor(model), steps=steps)
    expected = predict(model, images, steps=steps, shape=fixed_shape(session),
                       masks=MASKS in outputs_of(session))
    return worst(compare_detections(each, other) for each, other in zip(found, expected))


def run_file(session: 'onnxruntime.InferenceSession', images: Sequence[np.ndarray], *, divisor: int,
             steps: int) -> List[Detections]:
    """Detections of a file, in the form of :func:`predict`.

    Args:
        session (onnxruntime.InferenceSession): The file.
        images, divisor: See :func:`inputs_of`.
        steps (int): Steps of the refinement, for a file with an input ``steps``.
    """
    return list(zip(*session.run(outputs_of(session), session_inputs(session, images, divisor, steps))))


def outputs_of(session: 'onnxruntime.InferenceSession') -> List[str]:
    """Names of the outputs of a file that describe detections; only some files have masks."""
    found = {value.name for value in session.get_outputs()}
    return [name for name in (*OUTPUTS, MASKS) if name in found]


def session_inputs(session: 'onnxruntime.InferenceSession', images: Sequence[np.ndarray], divisor: int,
                   steps: int) -> Dict[str, np.ndarray]:
    """Inputs of a file; for the arguments see :func:`run_file`."""
    inputs = inputs_of(images, divisor, fixed_shape(session))
    if 'steps' in {value.name for value in session.get_inputs()}:
        inputs['steps'] = np.array(steps, dtype=np.int64)
    return inputs


def fixed_shape(session: 'onnxruntime.InferenceSession') -> Optional[Tuple[int, int]]:
    """Height and width of the images of a file; None if it takes any size."""
    shape = session.get_inputs()[0].shape[2:]
    return tuple(shape) if all(isinstance(side, int) for side in shape) else None


@torch.no_grad()
def predict(model: BaseModel, images: Sequence[np.ndarray], *, steps: int,
            shape: Optional[Tuple[int, int]] = None, masks: bool = False) -> List[Detections]:
    """Detections of the detector itself, by mmdet's functions, with plain iteration in float32.

    Args:
        model (BaseModel): The detector in eval mode.
        images (Sequence[np.ndarray]): RGB, uint8, has shape (H_i, W_i, 3).
        steps (int): Steps of the refinement.
        shape (tuple[int, int], optional): Height and width of the batch, for padding to a fixed size.
        masks (bool): Also return masks.

    Returns:
        list[tuple]: For each image boxes in pixels of the network's input, has shape (D, 4), scores and
        labels, has shape (D,), and with masks their maps, see :func:`probabilities`.
    """
    inputs, samples = prepare(model, images, shape)
    head, features = model.roi_head, model.extract_feat(inputs)
    proposals = model.rpn_head.predict(features, samples)
    state = head(features, proposals, samples, settings=exported_settings(head, steps))
    return detections_of(head, features, state, masks=masks)


def detections_of(head: Any, features: Sequence[torch.Tensor], state: AnyState, *, masks: bool
                  ) -> List[Detections]:
    """Detections of a decoded batch, in the form of :func:`predict`.

    Args:
        head (nn.Module): The decoder.
        features (Sequence[Tensor]): Feature levels, has shape (B, C_f, H_l, W_l).
        state (DecoderState): The decoded state, with logits.
        masks (bool): Also return masks.
    """
    assert state.logits is not None
    found, selection = [], exported_settings(head, 0).selection
    for image, (logits, box, content) in enumerate(zip(state.logits, state.box, state.content)):
        chosen = select_queries(logits, box, **selection)
        parts = [box[chosen.query], chosen.score, chosen.label]
        if masks:
            parts.append(probabilities(
                head.mask_head[-1], [level[image:image + 1] for level in features], content[chosen.query],
                parts[0], chosen.label))
        found.append(tuple(part.numpy() for part in parts))
    return found


def prepare(model: BaseModel, images: Sequence[np.ndarray], shape: Optional[Tuple[int, int]] = None
            ) -> Tuple[torch.Tensor, List[DetDataSample]]:
    """Prepare a batch with mmdet's data preprocessor; for the arguments see :func:`predict`.

    Returns:
        tuple: The input of the backbone, has shape (B, 3, H, W), and a sample for each image.
    """
    samples = [
        DetDataSample(metainfo=dict(
            img_shape=image.shape[:2], ori_shape=image.shape[:2], scale_factor=(1.0, 1.0)))
        for image in images
    ]
    # As in mmdet's pipelines: BGR, channels first.
    tensors = [torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))
               for image in images]
    batch = model.data_preprocessor(dict(inputs=tensors, data_samples=samples), False)
    inputs = batch['inputs']
    if shape is not None:
        below, right = shape[0] - inputs.shape[2], shape[1] - inputs.shape[3]
        inputs = F.pad(inputs, (0, right, 0, below), value=float(model.data_preprocessor.pad_value))
        for sample in batch['data_samples']:
            sample.set_metainfo(dict(batch_input_shape=shape))
    return inputs, batch['data_samples']


def worst(agreements: Iterable[Agreement]) -> Agreement:
    """The largest differences of several comparisons."""
    images, boxes, scores, masks = zip(*agreements)
    # NaN counts as the largest, which Python's max does not ensure.
    return Agreement(sum(images), float(np.max(boxes)), float(np.max(scores)),
                     None if None in masks else float(np.max(masks)))


def random_images(sizes: Sequence[Tuple[int, int]], seed: int = 0) -> List[np.ndarray]:
    """Images of coloured squares, RGB, uint8, with the given heights and widths."""
    generator = np.random.default_rng(seed)
    images = []
    for height, width in sizes:
        squares = generator.integers(0, 256, (-(-height // 16), -(-width // 16), 3), dtype=np.uint8)
        images.append(squares.repeat(16, axis=0).repeat(16, axis=1)[:height, :width])
    return images


def compare_detections(found: Detections, expected: Detections) -> Agreement:
    """The largest differences in one image; equal scores may be in any order."""
    scores = float(np.abs(found[1] - expected[1]).max()) if len(found[1]) == len(expected[1]) else np.inf
    boxes = np.maximum(_farthest(found, expected), _farthest(expected, found))
    masks = None
    if len(expected) > len(OUTPUTS):
        masks = float(np.maximum(_farthest_mask(found, expected), _farthest_mask(expected, found)))
    return Agreement(1, float(boxes), scores, masks)


def _farthest(some: Detections, others: Detections) -> float:
    """Largest distance from a detection to the nearest one with the same label and score.

    The comparison is not by rank, because equal scores may be in any order. The partner of a detection at the
    end of the list may be cut off.
    """
    far = 0.0
    for box, score, label in zip(*some[:3]):
        alike = (others[2] == label) & (np.abs(others[1] - score) <= SCORE_LIMIT)
        if alike.any():
            far = np.maximum(far, np.abs(others[0][alike] - box).max(-1).min())  # NaN stays NaN
        elif not score <= others[1].min(initial=np.inf) + SCORE_LIMIT:
            return np.inf
    return float(far)


def _farthest_mask(some: Detections, others: Detections) -> float:
    """Largest difference of a mask from the most similar one of the same detection.

    A detection without a partner is left to :func:`_farthest`.
    """
    far = 0.0
    for box, score, label, mask in zip(*some):
        alike = (others[2] == label) & (np.abs(others[1] - score) <= SCORE_LIMIT)
        alike &= np.abs(others[0] - box).max(-1) <= BOX_LIMIT
        if alike.any():
            far = np.maximum(far, np.abs(others[3][alike] - mask).max((-2, -1)).min())
    return float(far)


def exported_settings(head: Any, steps: int) -> PredictionSettings:
    """The settings in a file: plain iteration with these steps, then the best scores."""
    equilibrium = 'refinement_steps' in head.test_settings
    return PredictionSettings(
        refinements=steps + 1 if equilibrium else 0, max_per_img=head.prediction.max_per_img)
