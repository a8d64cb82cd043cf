"""Random training samples as the model gets them, after the augmentations of the config."""

import random
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Iterator, List, Sequence, Tuple

import numpy as np
import torch
from matplotlib.figure import Figure
from mmcv.transforms import BaseTransform

from ...images.drawing import distinct_colour, draw_box, label_box, show_picture
from ...images.fonts import families_for
from ..findings import Finding, finding_of

_COLUMNS = 4
_PANEL = 2.6
# With more boxes than this, labels would hide the picture.
_LABELLED = 12


@dataclass(frozen=True)
class Sample:
    """A training sample.

    Attributes:
        picture (np.ndarray): RGB, uint8, has shape (H, W, 3).
        boxes (np.ndarray): (x1, y1, x2, y2) in its pixels, has shape (N, 4).
        labels (np.ndarray): Has shape (N,).
        path (str): The image file, or the first of several.
    """

    picture: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    path: str


def draw_samples(dataset: Any, count: int, seed: int, *,
                 where: str) -> Tuple[List[Sample], List[Finding]]:
    """Draw random samples from a dataset.

    Args:
        dataset (BaseDataset): The training data, with wrappers and pipeline.
        count (int): Number of samples.
        seed (int): Seed of the choice and of the augmentations. The generators of the process do not change.
        where (str): Names the dataset in findings.

    Returns:
        tuple: The samples, and findings if the pipeline fails or leaves no boxes.
    """
    samples, found = [], []
    with _seeded(seed):
        numbers = np.random.permutation(len(dataset))[:count].tolist()
        for number in numbers:
            try:
                sample = _sample(dataset[number])
            except Exception as error:  # a pipeline step may raise anything
                said = f': {getattr(error, "message", error)}' if str(error) else ''
                found.append(Finding(
                    'pipeline', 'error', where, f'{_step_of(error)} fails on sample {number} with '
                    f'{type(error).__name__}{said}', 'check this step of the pipeline, or this '
                    'image', 1))
                return samples, found
            if sample:
                samples.append(sample)
    broken = [sample.path for sample in samples if not np.isfinite(sample.boxes).all()]
    if broken:
        found.append(finding_of(
            broken, 'pipeline', 'error', where, f'of {len(samples)} random samples have boxes that are not '
            'finite after the pipeline', 'check the steps of the pipeline'))
    elif samples and not any(len(sample.boxes) for sample in samples):
        found.append(Finding(
            'pipeline', 'warning', where, f'none of {len(samples)} random samples has a box after the '
            'pipeline', 'check whether its crops and filters fit the image sizes', len(samples)))
    return samples, found


def sample_sheet(samples: Sequence[Sample], classes: Sequence[str]) -> Figure:
    """Samples (at least one) side by side, with their boxes and classes."""
    columns = min(_COLUMNS, len(samples))
    rows = -(-len(samples) // columns)
    shapes = np.array([sample.picture.shape[:2] for sample in samples])
    # Rows are as high as the pictures need, so wide pictures leave no white space between rows.
    height = _PANEL * min(2.0, (shapes[:, 0] / shapes[:, 1]).max()) + 0.25
    figure = Figure(figsize=(columns * _PANEL, rows * height), layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[len(samples):]:
        axes.remove()
    for axes, sample in zip(panels, samples):
        _draw(axes, sample, classes)
    return figure


def _draw(axes, sample, classes):
    show_picture(axes, sample.picture)
    height, width = sample.picture.shape[:2]
    # A margin shows boxes that reach beyond the image.
    axes.set_xlim(-0.04 * width, 1.04 * width)
    axes.set_ylim(1.04 * height, -0.04 * height)
    taken = []
    for box, label in zip(sample.boxes.tolist(), sample.labels.tolist()):
        colour = distinct_colour(label)
        draw_box(axes, box, colour, width=1.4)
        if len(sample.boxes) <= _LABELLED:
            name = classes[label] if 0 <= label < len(classes) else str(label)
            label_box(axes, box, name, colour, shape=sample.picture.shape, taken=taken, font=6)
    name = sample.path.replace('\\', '/').split('/')[-1]
    name = name if len(name) <= 24 else f'...{name[-21:]}'
    boxes = 'box' if len(sample.boxes) == 1 else 'boxes'
    axes.set_title(f'{name}, {width} x {height}, {len(sample.boxes)} {boxes}', fontsize=7,
                   family=families_for(name))


def _sample(data):
    """A sample from the output of ``PackDetInputs``; None if the pipeline returned None."""
    if data is None:
        return None
    image, packed = data['inputs'], data['data_samples']
    # mmcv's loader gives BGR; the data preprocessor swaps the channels later.
    picture = image.numpy()[::-1].transpose(1, 2, 0)
    truth = packed.gt_instances
    boxes = getattr(truth.bboxes, 'tensor', truth.bboxes)
    return Sample(picture=np.ascontiguousarray(np.clip(picture, 0, 255).astype(np.uint8)),
                  boxes=np.asarray(boxes, dtype=float).reshape(-1, 4), labels=np.asarray(truth.labels),
                  path=str(packed.metainfo.get('img_path', '')))


def _step_of(error) -> str:
    """The innermost step of the pipeline in the error's traceback, in words."""
    frames = (frame.f_locals.get('self') for frame, _ in traceback.walk_tb(error.__traceback__))
    steps = [type(each).__name__ for each in frames if isinstance(each, BaseTransform)]
    return f'step {steps[-1]}' if steps else 'the pipeline'


@contextmanager
def _seeded(seed) -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
