"""Histograms of the data by split."""

from typing import Dict, Mapping, Optional, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from ...images.fonts import families_for
from .sources import Source

# Limits between COCO's small, medium and large: sides of a square in pixels.
_COCO_SIDES = (32, 96)
# With more classes the bars would be unreadable.
_CLASSES = 60
_BINS = 40


def histograms(splits: Mapping[str, Sequence[Source]], queries: Optional[int]) -> Dict[str, Figure]:
    """Figures of the data.

    Args:
        splits (dict[str, Sequence[Source]]): Datasets by the name of their split.
        queries (int, optional): Number of queries of the model.

    Returns:
        dict[str, Figure]: By file name without extension.
    """
    splits = _together(splits)
    return dict(
        objects_per_class=_classes(splits), box_sizes=_boxes(splits),
        objects_per_image=_objects(splits, queries), image_sizes=_images(splits))


def box_sides(source: Source) -> np.ndarray:
    """Square root of the area of each box (no crowds), in pixels; has shape (N,)."""
    boxes = source.boxes[~source.crowd]
    return np.sqrt(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1))


def objects_per_class(sources: Sequence[Source]) -> Dict[str, int]:
    """Number of objects (no crowds) by class name, in the order of the labels."""
    classes = list(dict.fromkeys(name for source in sources for name in source.classes))
    counts = dict.fromkeys(classes, 0)
    for source in sources:
        for name, count in zip(source.classes, np.bincount(
                source.labels[~source.crowd], minlength=len(source.classes))):
            counts[name] += int(count)
    return counts


def _together(splits) -> Dict[str, Sequence[Source]]:
    """Join splits that read the same datasets: "val, test"."""
    names = {}
    for split, sources in splits.items():
        names.setdefault(tuple(source.key for source in sources), []).append(split)
    return {', '.join(same): splits[same[0]] for same in names.values()}


def _classes(splits):
    counts = {split: objects_per_class(sources) for split, sources in splits.items()}
    first = next(iter(counts.values()))
    # Many classes are sorted by number of objects, so that the rare ones are together. A few classes are
    # easier to read in their own order.
    names = list(first)
    title = 'objects per class'
    if len(names) > 20:
        names = sorted(names, key=lambda name: -first[name])
    if len(names) > _CLASSES:
        title += f': the {_CLASSES // 2} with most and with fewest of {len(names)}'
        names = names[:_CLASSES // 2] + names[-_CLASSES // 2:]
    rows = len(names) * max(1, 0.6 * len(counts))
    figure = Figure(figsize=(7, max(2.5, 1.1 + 0.2 * rows)), layout='constrained')
    axes = figure.subplots()
    height = 0.8 / len(counts)
    for number, (split, by_name) in enumerate(counts.items()):
        values = [by_name.get(name, 0) for name in names]
        total = sum(by_name.values())
        bars = axes.barh(np.arange(len(names)) + number * height, values, height, label=f'{split} ({total})')
        axes.bar_label(bars, fontsize=6, padding=2)
    axes.set_yticks(np.arange(len(names)) + 0.4 - height / 2, [str(name) for name in names], fontsize=8,
                    family=families_for(''.join(map(str, names))))
    axes.invert_yaxis()
    most = max((value for by_name in counts.values() for value in by_name.values()), default=0)
    least = min((value for by_name in counts.values() for value in by_name.values() if value), default=1)
    if most > 100 * least:
        axes.set_xscale('symlog', linthresh=1)
    axes.set_xlim(0, max(1, most) * (1.1 if most <= 100 * least else 2))
    axes.set_xlabel('objects (crowds left out)')
    axes.set_title(title, fontsize=10)
    _finish(axes, 'x')
    return figure


def _boxes(splits):
    figure, axes = _figure('size of the boxes', 'square root of the area [px of the original image]',
                           'share of the boxes of the split')
    sides = {split: np.maximum(np.concatenate([box_sides(source) for source in sources]), 0.5)
             for split, sources in splits.items()}
    everything = np.concatenate([*sides.values(), [16, 128]])
    bins = np.geomspace(0.9 * everything.min(), 1.1 * everything.max(), _BINS)
    _steps(axes, sides, bins)
    axes.set_xscale('log')
    axes.set_xlim(bins[0], bins[-1])
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    for side in _COCO_SIDES:
        axes.axvline(side, color='grey', linestyle='--', linewidth=1)
    limits = [bins[0], *_COCO_SIDES, bins[-1]]
    for name, left, right in zip(('small', 'medium', 'large'), limits, limits[1:]):
        axes.text(np.sqrt(left * right), 0.98, name, transform=axes.get_xaxis_transform(), ha='center',
                  va='top', color='grey', fontsize=8)
    _finish(axes, 'y')
    return figure


def _objects(splits, queries):
    figure, axes = _figure('objects per image', 'objects in an image (crowds left out)',
                           'share of the images of the split')
    counts = {split: np.concatenate([source.objects_per_image for source in sources])
              for split, sources in splits.items()}
    most = max((int(values.max()) for values in counts.values() if len(values)), default=0)
    width = max(1, -(-most // 60))
    _steps(axes, counts, np.arange(-0.5, most + width + 0.5, width))
    if queries is not None:
        axes.axvline(queries, color='black', linestyle='--', linewidth=1,
                     label=f'{queries} queries of the model')
        # A line far above all images would only squeeze them.
        if queries > 3 * max(most, 1):
            axes.set_xlim(-0.5, 1.5 * max(most, 1))
            axes.text(0.98, 0.6, f'{queries} queries \N{RIGHTWARDS ARROW}', transform=axes.transAxes,
                      ha='right', fontsize=8)
    axes.xaxis.get_major_locator().set_params(integer=True)
    _finish(axes, 'y')
    return figure


def _images(splits):
    figure, axes = _figure('size of the images: the larger a circle, the more', 'width [px]', 'height [px]')
    for number, (split, sources) in enumerate(splits.items()):
        sizes = np.concatenate([source.sizes for source in sources])
        sizes = sizes[np.isfinite(sizes).all(axis=1)]
        kinds, counts = np.unique(sizes, axis=0, return_counts=True) if len(sizes) else (np.zeros((0, 2)), [])
        # Later splits get smaller circles, so that they do not cover those of earlier splits.
        area = 500 * np.sqrt(np.asarray(counts) / max(1, len(sizes))) / (1 + number) + 8
        axes.scatter(kinds[:, 0], kinds[:, 1], s=area, alpha=0.5, color=f'C{number}')
        axes.scatter([], [], s=40, alpha=0.5, color=f'C{number}',
                     label=f'{split}: {len(sizes)} images, {len(kinds)} size{"" if len(kinds) == 1 else "s"}')
    high = max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.set_xlim(0, 1.1 * high)
    axes.set_ylim(0, 1.1 * high)
    axes.set_aspect('equal')
    axes.plot([0, 2 * high], [0, 2 * high], color='grey', linewidth=0.6, zorder=0)
    _finish(axes, 'both')
    return figure


def _figure(title, x, y):
    figure = Figure(figsize=(7, 4), layout='constrained')
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, fontsize=10)
    return figure, axes


def _steps(axes: Axes, values: Dict[str, np.ndarray], bins) -> None:
    """A histogram of each split in shares, because splits differ in size."""
    for number, (split, each) in enumerate(values.items()):
        shares = np.histogram(each, bins)[0] / max(1, len(each))
        axes.stairs(shares, bins, fill=number == 0, alpha=0.35 if number == 0 else 1, color=f'C{number}',
                    linewidth=1.5, label=f'{split} ({len(each)})')


def _finish(axes, grid):
    axes.grid(alpha=0.3, axis=grid)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    # Outside the axes it hides nothing.
    axes.figure.legend(fontsize=8, loc='outside lower center', ncols=4, frameon=False)
