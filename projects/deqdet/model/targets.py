"""Ground truth of a batch, and matched queries and objects."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import List, Sequence

import torch
from mmdet.utils import InstanceList, reduce_mean
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.structures import InstanceData
from torch import Tensor

from ..dtypes import widened
from ..errors import UsageError


@dataclass(frozen=True)
class Targets:
    """Ground truth of a batch.

    Attributes:
        instances (list[:obj:`InstanceData`]): For each image ``bboxes`` (x1, y1, x2, y2) in pixels, has
            shape (M_i, 4), ``labels``, has shape (M_i,), and all other annotations.
        metas (list[dict]): Meta information of each image.
        whwh (Tensor): (w, h, w, h) of each image in pixels, has shape (B, 1, 4).
        ignored (list[:obj:`InstanceData`]): For each image ``bboxes`` of the regions that are annotated as
            ``iscrowd=1``, for assigners that use them.
    """

    instances: InstanceList
    metas: List[dict]
    whwh: Tensor
    ignored: InstanceList

    @classmethod
    def from_samples(cls, batch_data_samples: Sequence, *, num_classes: int,
                     num_queries: int) -> 'Targets':
        """Collect the targets of a batch, and check them once for all supervised states.

        Args:
            batch_data_samples (list[:obj:`DetDataSample`]): Annotated samples; boxes become float32, or stay
                in float64.
            num_classes (int): Classes K of the head.
            num_queries (int): Queries N.

        Raises:
            UsageError: If a label does not fit the head, or a box is not finite.
        """
        instances, metas, sizes, ignored = [], [], [], []
        for sample in batch_data_samples:
            truth = sample.gt_instances
            boxes = widened(getattr(truth.bboxes, 'tensor', truth.bboxes))
            _check_truth(boxes, truth.labels, sample.metainfo, num_classes, num_queries)
            instances.append(_with_boxes(truth, boxes))
            metas.append(sample.metainfo)
            ignored.append(_ignored_boxes(sample, boxes))
            height, width = sample.metainfo['img_shape'][:2]
            sizes.append([[width, height, width, height]])
        return cls(instances, metas, instances[0].bboxes.new_tensor(sizes), ignored)

    def to(self, dtype: torch.dtype) -> 'Targets':
        """The targets in another precision."""
        if all(value.dtype == dtype for value in (self.whwh, *(truth.bboxes for truth in self.instances))):
            return self
        instances, ignored = ([_with_boxes(each, each.bboxes.to(dtype)) for each in part]
                              for part in (self.instances, self.ignored))
        return replace(self, instances=instances, whwh=self.whwh.to(dtype), ignored=ignored)


@dataclass(frozen=True)
class Pairs:
    """Matched queries and objects of a batch: P pairs, sorted by image and query.

    A query is in at most one pair. An object is in several if the assigner matches several queries to it.

    Attributes:
        image (Tensor): Index of the image, has shape (P,).
        query (Tensor): Index of the query in the image, has shape (P,).
        target (Tensor): Index of the object in the image, has shape (P,).
        label (Tensor): Class of the object, has shape (P,).
        box (Tensor): (x1, y1, x2, y2) of the object in pixels, has shape (P, 4).
        left_out (Tensor): (image, query) of the U queries that are neither object nor background, so they
            have no class loss; has shape (2, U). Only assigners with a range between positive and negative,
            or with ignored regions, leave queries out.
    """

    image: Tensor
    query: Tensor
    target: Tensor
    label: Tensor
    box: Tensor
    left_out: Tensor

    def __len__(self) -> int:
        return len(self.query)

    @cached_property
    def normaliser(self) -> Tensor:
        """Divisor of the losses: the number of pairs of all workers, at least 1, over the number of workers.

        All workers must read it for the same states: the first reading adds up the numbers of all workers.
        The lower bound of 1 applies to the sum, not to the average: a single object on all workers counts
        as one.
        """
        # float32 at any precision of the losses: the count is exact, and the 1e-7 that mmdet adds vanishes
        # for counts of 2 and more.
        count = self.box.new_tensor(float(len(self)), dtype=torch.float32)
        return reduce_mean(count).clamp(min=1.0 / get_world_size())


def _ignored_boxes(sample, like):
    """Boxes that the evaluation ignores; none if the data has no such field."""
    if 'ignored_instances' not in sample:
        return InstanceData(bboxes=like.new_zeros(0, 4))
    boxes = sample.ignored_instances.bboxes
    return InstanceData(bboxes=getattr(boxes, 'tensor', boxes).to(like))


def _with_boxes(truth: InstanceData, boxes: Tensor) -> InstanceData:
    """The same annotations with other boxes."""
    truth = truth.new()
    truth.bboxes = boxes
    return truth


def _check_truth(boxes, labels, meta, num_classes, num_queries):
    """Refuse annotations that would give wrong results later; warn about objects that cannot be matched."""
    if not len(labels):
        return
    where = meta.get('img_path', 'an image without path')
    if int(labels.max()) >= num_classes or int(labels.min()) < 0:
        raise UsageError(
            f'label {int(labels.max())} of {where} does not fit the head, which has num_classes='
            f'{num_classes}; set num_classes of each roi_head.bbox_head to the number of classes of the data '
            'set', 'classes-mismatch')
    if not torch.isfinite(boxes).all():
        raise UsageError(f'{where} has a box that is not finite; correct the annotation', 'bad-annotations')
    if len(labels) > num_queries:
        print_log(
            f'{where} has {len(labels)} objects but the model has {num_queries} queries: '
            f'{len(labels) - num_queries} objects are not matched; raise model.rpn_head.num_proposals',
            logger='current', level=30)
