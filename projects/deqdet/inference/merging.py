"""Merge the detections of overlapping windows of a picture, so that every object is there once.

mmdet has ``mmdet.utils.large_image`` for this, a plain NMS over the detections of all windows. It needs the
package sahi. It keeps pieces: the border of a window cuts an object, and the piece overlaps the whole object
by so little (IoU) that NMS does not find it. And where one window sees two objects close together, it may
keep one only. Here three facts about windows are used:

- A detector has decided how many objects a window shows. So only detections of *different* windows and of one
  class are compared.
- A detection that an inner border of its window cuts shows only what lies in that window. So another
  detection is compared with it by its own part in that window. The piece of an object and the whole object
  then agree (IoU near 1), however small the piece is. Two pieces are compared in what both windows see.
- An object that is smaller than the overlap is whole in at least one window. So whole detections go first,
  and suppress the pieces. Pieces remain only of objects that no window sees whole. Pieces that agree are
  joined: each side of the box comes from a window that does not cut it.

Two detections are the same object if their IoU is 0.5 or more. 0.3 is enough if one of them is whole and each
is the best of its window for the other: boxes of a weak model differ so much, and two objects that both
windows see have better partners.

A piece that is smaller than the overlap shows nothing that another window does not show better, and a piece
may look like another class. So it is also suppressed by a whole detection of another class that agrees with
it, or that 70 % of it lies in.

Detections are taken in the order of their scores; a cut detection counts by half its score. So a whole one
goes first, unless its score is far lower.
"""

from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Sequence

import numpy as np
import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from pycocotools import mask as coco_masks
from torch import Tensor

from .masks import RLE, decode_mask

# Least IoU of two detections of one object; the least if each is the best for the other; and the least share
# of a small piece that lies in a whole detection.
_SAME, _SAME_IF_BEST, _INSIDE = 0.5, 0.3, 0.7
# A detection is cut if its side is this near to the border: a share of its own size, since the error of a
# side grows with the object, and at least this many pixels.
_NEAR, _LEAST_NEAR = 0.1, 1.0
# A cut detection counts by this share of its score. The boxes of pieces with less than this share of the best
# score are not joined.
_CUT = 0.5


class Window(NamedTuple):
    """A part of a picture, in pixels; ``right`` and ``bottom`` are the first pixels outside."""

    left: int
    top: int
    right: int
    bottom: int


class _Seen(NamedTuple):
    """The detections of all windows, in pixels of the picture.

    Attributes:
        found (:obj:`InstanceData`): All of them; ``bboxes`` are clipped at the inner borders.
        window (Tensor): Number of the window, has shape (D,).
        cut (Tensor): Whether the left, upper, right and lower side is at an inner border, has shape (D, 4).
    """

    found: InstanceData
    window: Tensor
    cut: Tensor


def merge(found: Sequence[InstanceData], windows: Sequence[Window], shape: Sequence[int], overlap: int
          ) -> InstanceData:
    """Detections in the whole picture; the module describes how.

    Args:
        found (Sequence[:obj:`InstanceData`]): ``bboxes`` in pixels of its window, ``scores``, ``labels``, and
            perhaps ``masks``, a list of RLE, and other fields, of each window, on the CPU.
        windows (Sequence[Window]): Their places.
        shape (Sequence[int]): Height and width of the picture.
        overlap (int): Pixels that neighbouring windows share at least.

    Returns:
        :obj:`InstanceData`: The same fields, in pixels of the picture, the best score first.
    """
    if len(windows) == 1:
        return found[0]
    seen = _seen(found, windows, shape)
    neighbours = _neighbours(seen, windows, overlap)
    groups = list(_groups(seen, neighbours))
    groups.sort(key=lambda group: -float(seen.found.scores[group[0]]))
    merged = seen.found[torch.tensor([group[0] for group in groups], dtype=torch.long)]
    for number, group in enumerate(groups):
        if len(group) > 1:
            merged.bboxes[number] = _joined_box(seen, group)
    if 'masks' in merged:
        merged.masks = [_joined_mask([placed(seen.found.masks[each], windows[int(seen.window[each])], shape)
                                      for each in group]) for group in groups]
    return merged


def _seen(found, windows, shape) -> _Seen:
    """All detections in pixels of the picture; those outside of their window are left out."""
    height, width = shape[:2]
    kept, numbers, cuts = [], [], []
    for number, (each, window) in enumerate(zip(found, windows)):
        boxes = each.bboxes + each.bboxes.new_tensor([window.left, window.top] * 2)
        inner = torch.tensor([window.left > 0, window.top > 0, window.right < width, window.bottom < height])
        far = boxes.new_tensor([-torch.inf, -torch.inf, torch.inf, torch.inf])
        border = torch.where(inner, boxes.new_tensor(window), far)
        clipped = torch.cat([boxes[:, :2].maximum(border[:2]), boxes[:, 2:].minimum(border[2:])], dim=1)
        lost = (clipped != boxes).any(dim=1) & (clipped[:, 2:] <= clipped[:, :2]).any(dim=1)
        near = _near(clipped[:, 2:] - clipped[:, :2]).repeat(1, 2)
        each = each.new()
        each.bboxes = clipped
        kept.append(each[~lost])
        cuts.append(((clipped - border).abs() <= near)[~lost])
        numbers.append(torch.full((len(kept[-1]), ), number))
    return _Seen(InstanceData.cat(kept), torch.cat(numbers), torch.cat(cuts))


def _neighbours(seen: _Seen, windows, overlap) -> Dict[int, List[int]]:
    """The detections of other windows that each one suppresses, or is joined with."""
    neighbours: Dict[int, List[int]] = {}
    places, boxes, piece = torch.tensor(windows), seen.found.bboxes, seen.cut.any(dim=1)
    small = piece & _is_small(boxes, seen.cut, overlap)
    ends = torch.bincount(seen.window, minlength=len(windows)).cumsum(0).tolist()
    # Window by window, so that memory does not grow with their number.
    for number, (first, last) in enumerate(zip([0, *ends], ends)):
        others = _meets(places[number], places[number + 1:]).nonzero().flatten() + number + 1
        if first == last or not len(others):
            continue
        ours = torch.arange(first, last)
        theirs = torch.cat([torch.arange(ends[other - 1], ends[other]) for other in others.tolist()])
        a, b = _meets(boxes[ours][:, None], boxes[theirs]).nonzero(as_tuple=True)
        a, b = ours[a], theirs[b]
        likeness, alike = _likeness(seen, a, b, places), seen.found.labels[a] == seen.found.labels[b]
        rivals = alike * likeness
        best = _is_best(rivals, a * len(windows) + seen.window[b]) & _is_best(rivals, b)
        same = alike & ((likeness >= _SAME) | best & ~(piece[a] & piece[b]) & (likeness >= _SAME_IF_BEST))
        for one, other in ((a, b), (b, a)):
            redundant = small[other] & ~piece[one] & (
                (likeness >= _SAME) | (_share_inside(boxes[other], boxes[one]) >= _INSIDE))
            for each, its in zip(one[same | redundant].tolist(), other[same | redundant].tolist()):
                neighbours.setdefault(each, []).append(its)
    return neighbours


def _meets(a: Tensor, b: Tensor) -> Tensor:
    """Whether boxes have a common part."""
    return ((a[..., :2] < b[..., 2:]) & (b[..., :2] < a[..., 2:])).all(dim=-1)


def _is_best(likeness: Tensor, rivals: Tensor) -> Tensor:
    """Whether a pair is the best of those with its number in ``rivals``; both have shape (P,)."""
    _, number = rivals.unique(return_inverse=True)
    best = likeness.new_zeros(len(likeness)).scatter_reduce(0, number, likeness, 'amax')
    return likeness == best[number]


def _likeness(seen: _Seen, a: Tensor, b: Tensor, places: Tensor) -> Tensor:
    """IoU of pairs of detections of two windows, of their parts that both could see, has shape (P,)."""
    (boxes_a, cut_a, place_a), (boxes_b, cut_b, place_b) = (
        (seen.found.bboxes[each], seen.cut[each], places[seen.window[each]]) for each in (a, b))
    of_a = torch.where(cut_b.any(dim=1)[:, None], _inside(boxes_a, place_b), boxes_a)
    of_b = torch.where(cut_a.any(dim=1)[:, None], _inside(boxes_b, place_a), boxes_b)
    return bbox_overlaps(of_a, of_b, is_aligned=True)


def _inside(boxes: Tensor, places: Tensor) -> Tensor:
    """The parts of boxes in windows; the area is 0 if there is none."""
    return boxes.maximum(places[:, :2].repeat(1, 2)).minimum(places[:, 2:].repeat(1, 2))


def _share_inside(boxes: Tensor, others: Tensor) -> Tensor:
    """Share of each box that is in the other one of its pair, has shape (P,)."""
    return bbox_overlaps(boxes, others, mode='iof', is_aligned=True)


def _is_small(boxes: Tensor, cut: Tensor, overlap: int) -> Tensor:
    """Whether another window shows more of each object: where it is cut, it is smaller than the overlap."""
    size, across = boxes[:, 2:] - boxes[:, :2], cut[:, :2] | cut[:, 2:]
    return ((size + 2 * _near(size) <= overlap) | ~across).all(dim=1)


def _near(size: Tensor) -> Tensor:
    """How near to a border a side counts as cut, by width and height of the box."""
    return (size * _NEAR).clamp(min=_LEAST_NEAR)


def _groups(seen: _Seen, neighbours) -> Iterator[List[int]]:
    """Detections of one object each: a whole one, or pieces to join, the best first. Others are left out."""
    is_piece = seen.cut.any(dim=1)
    rank = torch.where(is_piece, _CUT * seen.found.scores, seen.found.scores)
    scores, piece, gone = seen.found.scores.tolist(), is_piece.tolist(), set()
    for top in rank.argsort(descending=True, stable=True).tolist():
        if top in gone:
            continue
        gone.add(top)
        group = [top]
        for member in group if piece[top] else ():  # it grows
            more = [each for each in neighbours.get(member, ())
                    if each not in gone and piece[each] and scores[each] >= _CUT * scores[top]]
            group += dict.fromkeys(more)
            gone.update(more)
        for member in group:
            gone.update(neighbours.get(member, ()))
        yield group


def _joined_box(seen: _Seen, group: Sequence[int]) -> Tensor:
    """The box around pieces: each side is that of the best piece that is not cut there, or the outermost."""
    order = sorted(group, key=lambda each: -float(seen.found.scores[each]))
    boxes, cut = seen.found.bboxes[order], seen.cut[order]
    outermost = torch.cat([boxes[:, :2].amin(dim=0), boxes[:, 2:].amax(dim=0)])
    best = (~cut).float().argmax(dim=0)  # the first that is not cut
    return torch.where(cut.all(dim=0), outermost, boxes[best, torch.arange(4)])


def placed(mask: RLE, window: Window, shape: Sequence[int]) -> RLE:
    """A mask of a window as the mask of the picture, without an array of its size.

    Args:
        mask (dict): RLE of the window.
        window (Window): Its place.
        shape (Sequence[int]): Height and width of the picture.
    """
    height, width = (int(side) for side in shape[:2])
    rows = decode_mask(mask).T  # COCO counts down the columns
    # A zero at both ends of each column, so that no run leaves its column.
    edges = np.diff(np.pad(rows, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (columns, begin), (_, end) = np.nonzero(edges == 1), np.nonzero(edges == -1)
    offset = (columns + window.left) * height + window.top
    begin, end = begin + offset, end + offset
    if len(begin):
        apart = begin[1:] != end[:-1]  # otherwise a run continues in the next column
        begin, end = begin[np.r_[True, apart]], end[np.r_[apart, True]]
    ends = [0, *np.stack([begin, end], axis=1).ravel().tolist(), height * width]
    counts = [last - first for first, last in zip(ends, ends[1:])]
    # As pycocotools writes it: no run of 0 pixels at the end.
    counts = counts[:-1] if counts[-1] == 0 else counts
    rle = coco_masks.frPyObjects(dict(size=[height, width], counts=counts), height, width)
    return dict(size=[height, width], counts=rle['counts'].decode())


def _joined_mask(masks: Iterable[RLE]) -> RLE:
    parts: List[Any] = list(masks)
    if len(parts) == 1:
        return parts[0]
    rle = coco_masks.merge(parts)
    return dict(size=[int(side) for side in rle['size']], counts=rle['counts'].decode())
