"""Confidence intervals of AP, from bootstrap samples of images and seeds.

A test set is a sample of images, and a training is a sample of seeds. How much would another sample differ?
The bootstrap answers by drawing images, and seeds, with replacement (Efron and Tibshirani, An Introduction to
the Bootstrap, 1993, section 13.3).
"""

import contextlib
import io
import json
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

#: Names of the metrics with intervals, by the kind of the results, in the order of :meth:`Matched.ap`.
INTERVALS = {'bbox': ('AP', 'AP50'), 'segm': ('mask AP', 'mask AP50')}


class Interval(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def is_noise(self) -> bool:
        """Of a difference: whether 0 is inside."""
        return self.low <= 0 <= self.high


class Matched:
    """Detections of one training, matched with the objects of each image once; AP of any sample of images.

    Args:
        annotations (Path): COCO annotations.
        results (Path): Detections in COCO's format for results, of all images.
        kind (str): ``bbox`` or ``segm``.
        limit (int): Detections of an image that count, the best ones; COCO's limit is 100.
    """

    def __init__(self, annotations: Path, results: Path, kind: str, *, limit: int = 100) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(annotations))
            found = json.loads(results.read_text())
            self._evaluation = COCOeval(truth, truth.loadRes(found) if found else COCO(), kind)
            # Only the AP of all sizes.
            limits = self._evaluation.params
            limits.areaRng, limits.areaRngLbl = limits.areaRng[:1], limits.areaRngLbl[:1]
            limits.maxDets = [limit]
            self._evaluation.evaluate()
        self.images = len(limits.imgIds)
        self._by_class = np.array(self._evaluation.evalImgs, dtype=object).reshape(-1, self.images)

    def ap(self, sample: NDArray[np.integer]) -> List[float]:
        """AP and AP50 of a sample of the images; images may occur several times.

        Args:
            sample (ndarray): As many indices as there are images.
        """
        self._evaluation.evalImgs = list(self._by_class[:, sample].flatten())
        with contextlib.redirect_stdout(io.StringIO()):
            self._evaluation.accumulate()
        precision = self._evaluation.eval['precision']  # thresholds, recalls, classes, 1, 1
        return [float(values[values > -1].mean()) if (values > -1).any() else float('nan')
                for values in (precision, precision[:1])]


def bootstrap(trainings: Mapping[str, Mapping[int, Matched]], *, draws: int = 200
              ) -> Dict[str, NDArray[np.floating]]:
    """AP and AP50 of variants in bootstrap samples.

    All variants get the same samples of images, and of seeds if they have the same seeds: their differences
    are paired.

    Args:
        trainings (dict): For each variant its trainings by seed; all with the same images.
        draws (int): Number of samples.

    Returns:
        dict: For each variant means over its seeds, has shape (draws + 1, 2). Row 0 is the sample itself.
    """
    found = {}
    for variant, seeds in trainings.items():
        random = np.random.default_rng(0)
        images = next(iter(seeds.values())).images
        samples = [np.arange(images), *random.integers(images, size=(draws, images))]
        count = len(seeds)
        chosen = np.concatenate([[np.arange(count)], random.integers(count, size=(draws, count))])
        by_seed = np.array([[seeds[seed].ap(sample) for seed in sorted(seeds)] for sample in samples])
        found[variant] = by_seed[np.arange(draws + 1)[:, None], chosen].mean(1)
    return found


def interval_of(values: NDArray[np.floating]) -> Interval:
    """The 95 % interval of a value (the first) and its bootstrap samples (the others)."""
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return Interval(float(values[0]), float(low), float(high))


def interval_rows(trainings: Mapping[str, Mapping[int, Mapping[str, Matched]]], *, draws: int = 200
                  ) -> List[dict]:
    """Rows of a table: AP of each variant, and its difference to the first one, with 95 % intervals.

    Args:
        trainings (dict): By name of the variant, seed and kind (``bbox``, ``segm``).
        draws (int): Number of bootstrap samples.
    """
    rows = []
    for kind, metrics in INTERVALS.items():
        of_kind = {name: {seed: kinds[kind] for seed, kinds in seeds.items() if kind in kinds}
                   for name, seeds in trainings.items()}
        samples = bootstrap({name: seeds for name, seeds in of_kind.items() if seeds}, draws=draws)
        names = list(samples)
        for column, metric in enumerate(metrics):
            for name in names:
                values, reference = (samples[key][:, column] for key in (name, names[0]))
                own, gain = interval_of(values), interval_of(values - reference)
                row = dict(variant=name, metric=metric, seeds=len(of_kind[name]), value=own.value,
                           low=own.low, high=own.high)
                row.update({'difference': gain.value, 'from': gain.low, 'to': gain.high,
                            'noise': 'yes' if gain.is_noise else 'no'} if name != names[0] else
                           dict.fromkeys(('difference', 'from', 'to', 'noise'), ''))
                rows.append(row)
    return rows
