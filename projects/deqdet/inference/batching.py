"""Frames in batches."""

from typing import Any, Iterable, Iterator, List, Optional, Sequence, Tuple

from ..errors import UsageError
from ..settings import is_whole
from .reading import Frame

# Images of 1 x 4000 and 4000 x 1 pixels in one batch would both be padded to 4000 x 4000. Portrait and
# landscape photographs in one batch have less than twice their own pixels.
_PADDING = 4

#: A frame and its data for the network; None for a broken frame.
Prepared = Tuple[Frame, Optional[dict]]


def in_batches(frames: Iterable[Prepared], size: int) -> Iterator[List[Prepared]]:
    """Group frames into batches. Broken frames do not count towards the size.

    A batch ends early if the next image would make most of it padding.

    Args:
        frames (Iterable): The frames.
        size (int): Maximum number of images in a batch.
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
    """Raise a UsageError unless the batch size is a whole number of at least 1."""
    if not is_whole(batch_size) or batch_size < 1:
        raise UsageError(f'batch_size={batch_size!r} must be a whole number, 1 or more', 'bad-argument')


def _mostly_padding(batch: Sequence[dict]) -> bool:
    """Whether padding to one size gives many times the pixels of the images."""
    sizes = [data['inputs'].shape[-2:] for data in batch]
    padded = len(sizes) * max(height for height, _ in sizes) * max(width for _, width in sizes)
    return padded > _PADDING * sum(height * width for height, width in sizes)
