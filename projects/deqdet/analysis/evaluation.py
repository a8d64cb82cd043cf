"""One evaluator for several predictions of the same images."""

import contextlib
import io
import logging
import statistics
from collections import defaultdict
from typing import Dict, Hashable, List

from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger

# Names of COCO's metrics in tables.
_SHORT = {f'{kind}_mAP{suffix}': f'{word}AP{suffix.lstrip("_")}'
          for kind, word in (('bbox', ''), ('segm', 'mask '))
          for suffix in ('', '_50', '_75', '_s', '_m', '_l')}
#: Names of the main metrics: of boxes, and of masks.
MAIN = ('AP', 'mask AP')


class Contest:
    """Evaluates several candidates on the same images; the annotations are read once.

    Args:
        evaluator (Evaluator): The evaluator of a test.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self._results: Dict[Hashable, List[list]] = defaultdict(lambda: [[] for _ in evaluator.metrics])
        self._seconds: Dict[Hashable, List[float]] = defaultdict(list)

    def process(self, candidate: Hashable, samples: SampleList, predictions: InstanceList,
                seconds: float = 0.0) -> None:
        """Add the predictions of one candidate for a batch.

        Args:
            candidate (Hashable): The candidate.
            samples (list[:obj:`DetDataSample`]): The images.
            predictions (list[:obj:`InstanceData`]): Their detections, in pixels of the original images.
            seconds (float): Time of the predictions.
        """
        self._seconds[candidate].append(seconds / len(samples))
        for sample, prediction in zip(samples, predictions):
            sample.pred_instances = prediction
        for metric, results in zip(self.evaluator.metrics, self._results[candidate]):
            metric.results = results
        self.evaluator.process(data_samples=samples)

    def milliseconds(self, candidate: Hashable) -> float:
        """Time per image: the median over all batches except the first, which is the warm-up."""
        seconds = self._seconds[candidate]
        return 1000 * statistics.median(seconds[1:] or seconds)

    def mean_milliseconds(self, candidate: Hashable) -> float:
        """Time per image if images need different times: the mean over all batches."""
        return 1000 * statistics.mean(self._seconds[candidate])

    def evaluate(self, candidate: Hashable, size: int) -> Dict[str, float]:
        """Metrics of a candidate, by the names of :func:`short_name`.

        Args:
            candidate (Hashable): A candidate that has processed all images.
            size (int): Number of images.
        """
        for metric, results in zip(self.evaluator.metrics, self._results.pop(candidate)):
            metric.results = results
        logger = MMLogger.get_current_instance()
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # hides a table of twelve lines
                metrics = self.evaluator.evaluate(size)
        finally:
            logger.setLevel(level)
        return {short_name(name): value for name, value in metrics.items()
                if isinstance(value, (int, float))}


def short_name(metric: str) -> str:
    """Name of a metric in tables.

    It is ``AP50`` for ``coco/bbox_mAP_50`` and ``mask AP50`` for ``coco/segm_mAP_50``. Others only lose their
    prefix.
    """
    name = metric.split('/')[-1]
    return _SHORT.get(name, name)
