"""The masks of annotations (``segmentation``) as columns: form, extent, area, and what is wrong with them.

Nothing is decoded to pixels. Polygons are checked by their numbers, run-length encodings by their counts.
"""

from dataclasses import dataclass
from itertools import chain
from typing import Dict, Mapping, Sequence, Tuple

import numpy as np
from pycocotools import mask as coco_masks

#: Forms of a mask: no or an empty value, polygons, run-length encoding (RLE), anything else.
NONE, POLYGONS, RLE, UNREADABLE = range(4)

# Annotations that are read together. All numbers of a large file at once would fill the memory.
_BATCH = 20000
# No image has this many pixels on a side.
_LARGEST_SIDE = 10**6
# More characters than this for one count of an RLE are more than 32 bits.
_CHARACTERS = 7


@dataclass(frozen=True)
class MaskTable:
    """The masks of N annotations, in the file's order.

    Attributes:
        forms (np.ndarray): ``NONE``, ``POLYGONS``, ``RLE`` or ``UNREADABLE``, has shape (N,).
        sizes (np.ndarray): Width and height that an RLE states, NaN for others, has shape (N, 2).
        extents (np.ndarray): Box (x1, y1, x2, y2) around the mask in pixels, NaN where it is unknown or
            empty, has shape (N, 4).
        empty (np.ndarray): Masks without a pixel, has shape (N,), bool.
        short (np.ndarray): Masks with a polygon of fewer than three points, or of an odd number of numbers,
            has shape (N,), bool.
        ignored (np.ndarray): Polygons of which none has three points and an even number of numbers: training
            ignores the object, has shape (N,), bool.
        unevaluated (np.ndarray): Masks that begin with a polygon of fewer than five numbers: pycocotools
            takes it for a box and fails, has shape (N,), bool.
        faults (dict[int, str]): Why a mask cannot be decoded, by row.
    """

    forms: np.ndarray
    sizes: np.ndarray
    extents: np.ndarray
    empty: np.ndarray
    short: np.ndarray
    ignored: np.ndarray
    unevaluated: np.ndarray
    faults: Dict[int, str]


def read_masks(annotations: Sequence[Mapping]) -> MaskTable:
    """Read the masks of all annotations of a file; any value is allowed.

    Args:
        annotations (Sequence[Mapping]): N annotations in COCO's format.

    Returns:
        MaskTable: With a row for each.
    """
    count = len(annotations)
    table = MaskTable(
        forms=np.zeros(count, dtype=np.int8), sizes=np.full((count, 2), np.nan),
        extents=np.full((count, 4), np.nan), empty=np.zeros(count, dtype=bool),
        short=np.zeros(count, dtype=bool), ignored=np.zeros(count, dtype=bool),
        unevaluated=np.zeros(count, dtype=bool), faults={})
    for begin in range(0, count, _BATCH):
        polygons: Dict[int, list] = {}
        codes: Dict[int, dict] = {}
        for row in range(begin, min(begin + _BATCH, count)):
            value = annotations[row].get('segmentation')
            if not value:
                continue
            if _is_bitmap(value):
                _refuse(table, row, 'it is a bitmap, rows of 0 and 1')
            elif isinstance(value, list):
                table.forms[row] = POLYGONS
                polygons[row] = value
            elif isinstance(value, dict) and 'counts' in value and 'size' in value:
                table.forms[row] = RLE
                codes[row] = value
            else:
                _refuse(table, row, 'it is neither a list of polygons nor a dict of size and counts')
        _read_polygons(table, polygons)
        _read_codes(table, codes)
    return table


def _refuse(table, row, why):
    table.faults[row] = why
    if table.forms[row] != RLE:
        table.forms[row] = UNREADABLE


def _is_bitmap(value) -> bool:
    """Whether a mask is a list of at least two rows of 0 and 1; pycocotools reads them as tiny polygons."""
    return isinstance(value, list) and len(value) > 1 and all(
        isinstance(row, list) and row and all(each in (0, 1) for each in row) for row in value)


def _read_polygons(table, polygons):
    try:
        _read_numbers(table, polygons)
    except (TypeError, ValueError, OverflowError):
        # The fault of one is looked for only now, because that takes longer.
        for row, value in polygons.items():
            try:
                _read_numbers(table, {row: value})
            except (TypeError, ValueError, OverflowError):
                _refuse(table, row, _why_no_polygons(value))


def _why_no_polygons(value) -> str:
    if all(isinstance(part, list) for part in value):
        return 'a polygon is not a list of numbers within an image'
    numbers = all(isinstance(part, (int, float)) for part in value)
    return f'it is a list of {"numbers" if numbers else "other things"}, not of polygons [[x1, y1, ...]]'


def _read_numbers(table, polygons):
    """Extents and areas of polygons.

    Raises:
        TypeError, ValueError, OverflowError: If a polygon is not a list of numbers that an image may have.
    """
    parts = [part for value in polygons.values() for part in value]
    if not all(isinstance(part, list) for part in parts):
        raise TypeError
    # As in pycocotools, a text such as '1.5' is a number.
    flat = np.array(list(chain.from_iterable(parts)), dtype=float)
    # Larger values would also take pycocotools all memory.
    if flat.ndim != 1 or not (np.abs(flat) <= _LARGEST_SIDE).all():
        raise ValueError
    lengths = np.array([len(part) for part in parts], dtype=int)
    owners = np.repeat(list(polygons), [len(value) for value in polygons.values()]).astype(int)
    whole = (lengths >= 6) & (lengths % 2 == 0)
    table.short[owners[~whole]] = True
    table.ignored[owners] = True
    table.ignored[owners[whole]] = False
    table.unevaluated[[row for row, value in polygons.items() if len(value[0]) < 5]] = True
    points = flat[np.repeat(whole, lengths)].reshape(-1, 2)
    owners, counts = owners[whole], lengths[whole] // 2
    if not len(points):
        return
    firsts = np.cumsum(counts) - counts
    rows, starts = np.unique(np.repeat(owners, counts), return_index=True)
    table.extents[rows] = np.concatenate([
        np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)], axis=1)
    # The area by the shoelace formula: each point with the next one, the last one with the first one.
    following = np.arange(1, len(points) + 1)
    following[firsts + counts - 1] = firsts
    x, y = (points - table.extents[np.repeat(owners, counts), :2]).T
    areas = np.abs(np.add.reduceat(x * y[following] - x[following] * y, firsts)) / 2
    sums = np.bincount(np.searchsorted(rows, owners), areas, len(rows))
    for row in rows[sums == 0].tolist():
        # A polygon that crosses itself may sum up to zero.
        table.empty[row] = _pixels(polygons[row]) == 0


def _pixels(parts) -> int:
    """Pixels of a few polygons, in an image that holds them."""
    parts = [part for part in parts if len(part) >= 6 and not len(part) % 2]
    corner = np.min([np.reshape(part, (-1, 2)).min(axis=0) for part in parts], axis=0)
    moved = [(np.reshape(part, (-1, 2)) - corner).ravel() for part in parts]
    side = int(max(part.max() for part in moved)) + 1
    codes = coco_masks.frPyObjects([part.tolist() for part in moved], side, side)
    return int(coco_masks.area(coco_masks.merge(codes)))


def _read_codes(table, codes):
    """Sizes, extents and areas of run-length encodings, compressed or not."""
    texts: Dict[int, str] = {}
    fine: Dict[int, dict] = {}
    for row, code in codes.items():
        size = code['size']
        if not (isinstance(size, list) and len(size) == 2 and all(
                type(side) is int and 0 < side <= _LARGEST_SIDE for side in size)):
            _refuse(table, row, 'size is not [height, width] in pixels')
            continue
        table.sizes[row] = size[::-1]
        counts = code['counts']
        if isinstance(counts, str):
            texts[row] = counts
        elif isinstance(counts, list) and all(type(each) is int and 0 <= each < 2**32 for each in counts):
            if _fits(table, row, sum(counts), sum(counts[1::2]), size):
                fine[row] = coco_masks.frPyObjects(code, *size)
        else:
            _refuse(table, row, 'counts are neither a text nor a list of numbers')
    totals, inside, readable = sums_of_counts(list(texts.values()))
    for row, total, pixels, known in zip(texts, totals.tolist(), inside.tolist(), readable.tolist()):
        if not known:
            _refuse(table, row, 'counts are not a compressed RLE')
        elif _fits(table, row, total, pixels, codes[row]['size']):
            fine[row] = codes[row]
    if fine:
        boxes = coco_masks.toBbox(list(fine.values())).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        table.extents[list(fine)] = boxes


def _fits(table, row, total, pixels, size) -> bool:
    """Whether counts have as many pixels as the image; notes empty masks."""
    if total != size[0] * size[1]:
        _refuse(table, row, f'counts add up to {total:.0f} instead of {size[0]} * {size[1]} pixels')
        return False
    table.empty[row] = pixels == 0
    return pixels > 0


def sums_of_counts(texts: Sequence[str]) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of pixels of compressed run-length encodings, as in ``rleFrString`` of pycocotools.

    pycocotools itself does not check ``counts``: a text that is cut off gives other pixels, or never ends.

    Args:
        texts (Sequence[str]): ``counts`` of K encodings.

    Returns:
        tuple: Pixels of the image and of the mask, each of shape (K,), and whether the text can be read, has
            shape (K,), bool.
    """
    data = [text.encode() if text.isascii() else b'' for text in texts]
    owners = np.repeat(np.arange(len(data)), [len(each) for each in data])
    values = np.frombuffer(b''.join(data), dtype=np.uint8).astype(np.int64) - 48
    # A count is written in characters of 5 bits each; a sixth bit tells that another one follows.
    more = (values & 0x20) != 0
    readable = np.array([len(each) > 0 for each in data], dtype=bool)
    readable[owners[(values < 0) | (values > 63)]] = False
    last = np.flatnonzero(np.diff(owners, append=-1))
    readable[owners[last[more[last]]]] = False
    keep = readable[owners]
    values, more, owners = values[keep], more[keep], owners[keep]
    ends = np.flatnonzero(~more)
    starts = np.append(0, ends[:-1] + 1)[:len(ends)]
    lengths = ends - starts + 1
    readable[owners[ends[lengths > _CHARACTERS]]] = False
    shifts = np.minimum(np.arange(len(values)) - np.repeat(starts, lengths), _CHARACTERS)
    counts = np.add.reduceat((values & 0x1f) << (5 * shifts), starts) if len(starts) else values
    # The last character has the sign.
    counts = counts - np.where(values[ends] & 0x10, 1 << (5 * np.minimum(lengths, _CHARACTERS)), 0)
    owners = owners[ends]
    numbers = np.arange(len(owners)) - np.searchsorted(owners, owners)
    sums_by_parity = []
    for odd in (0, 1):
        # From the fourth count on, the text has the difference to the count before the last one.
        own = np.flatnonzero((numbers % 2 == odd) & (numbers > 0))
        sums = np.cumsum(counts[own])
        first = np.searchsorted(owners[own], owners[own])
        sums -= sums[first] - counts[own][first]
        readable[owners[own][sums < 0]] = False
        sums_by_parity.append(np.bincount(owners[own], sums, len(data)))
    outside, inside = sums_by_parity
    begin = numbers == 0
    readable[owners[begin & (counts < 0)]] = False
    return outside + inside + np.bincount(owners[begin], counts[begin], len(data)), inside, readable
