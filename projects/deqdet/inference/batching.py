"""Frames in batches."""

from typing import Any, Iterable, Iterator, List, Optional, Sequence, Tuple

from ..errors import UsageError
from ..settings import is_whole
from .reading import Frame

# Images of 1 x 4000 and 4000 x 1 pixels in one batch would be two of 4000 x 4000. Upright and lying
# photographs together have less than twice their own pixels.
_PADDING = 4

#: A frame with its data for the network; a broken one has none.
Prepared = Tuple[Frame, Optional[dict]]


def in_batches(frames: Iterable[Prepared], size: int) -> Iterator[List[Prepared]]:
    """Frames, so many at a time; broken ones among them do not count.

    A batch ends early before an image that would make most of it padding.

    Args:
        frames (Iterable): The frames.
        size (int): Images at a time, at most.
    """
    batch: List[Prepared] = []
    images: List[dict] = []
    for frame, data in frames:
        if data is not None and images and _mostly_padding([*images, data]):
            yield batch
            batch, images = [], []
        batch.append((frame, data))
        images.extend([] if data is None else [data])
        if len(images) == size:
            yield batch
            batch, images = [], []
    if batch:
        yield batch


def check_batch_size(batch_size: Any) -> None:
    """Raise a UsageError unless it is a whole number, 1 or more."""
    if not is_whole(batch_size) or batch_size < 1:
        raise UsageError(f'batch_size={batch_size!r} must be 1 or more, a whole number')


def _mostly_padding(batch: Sequence[dict]) -> bool:
    """Whether images in one batch, padded to one size, have many times the pixels of their own."""
    sizes = [data['inputs'].shape[-2:] for data in batch]
    padded = len(sizes) * max(height for height, _ in sizes) * max(width for _, width in sizes)
    return padded > _PADDING * sum(height * width for height, width in sizes)
