"""Inputs in batches, without those that cannot be read."""

from typing import Any, Callable, Iterable, Iterator, List, Sequence, Tuple

from ..errors import UsageError
from ..settings import is_whole
from .reading import BrokenFileError

# Images of 1 x 4000 and 4000 x 1 pixels in one batch would be two of 4000 x 4000. Upright and lying
# photographs together have less than twice their own pixels.
_PADDING = 4


def in_batches(inputs: Iterable[Any], size: int, read: Callable[[Any], dict]
               ) -> Iterator[Tuple[List[tuple], List[Tuple[str, str]]]]:
    """Inputs with their data, so many at a time, and what could not be read meanwhile.

    A batch ends early before an image that would make most of it padding.

    Args:
        inputs (Iterable): Paths, URLs, arrays.
        size (int): Images at a time, at most.
        read (Callable): Gives the data of an input, or raises a BrokenFileError.

    Yields:
        tuple: Pairs of an input and its data; pairs of a broken input and the reason.
    """
    batch: List[tuple] = []
    broken: List[Tuple[str, str]] = []
    for each in inputs:
        try:
            data = read(each)
        except BrokenFileError as error:
            broken.append((each, error.reason))
            continue
        if batch and _mostly_padding([*(one for _, one in batch), data]):
            yield batch, broken
            batch, broken = [], []
        batch.append((each, data))
        if len(batch) == size:
            yield batch, broken
            batch, broken = [], []
    if batch or broken:
        yield batch, broken


def check_batch_size(batch_size: Any) -> None:
    """Raise a UsageError unless it is a whole number, 1 or more."""
    if not is_whole(batch_size) or batch_size < 1:
        raise UsageError(f'batch_size={batch_size!r} must be 1 or more, a whole number')


def refuse_broken(broken: Sequence[Tuple[str, str]], skip: bool) -> None:
    """The first broken file ends a call that does not skip them.

    Raises:
        UsageError: Naming it.
    """
    if broken and not skip:
        raise UsageError(f'image {broken[0][0]} cannot be read ({broken[0][1]}): replace it, or skip such '
                         'files with skip_broken=True')


def _mostly_padding(batch: Sequence[dict]) -> bool:
    """Whether images in one batch, padded to one size, have many times the pixels of their own."""
    sizes = [data['inputs'].shape[-2:] for data in batch]
    padded = len(sizes) * max(height for height, _ in sizes) * max(width for _, width in sizes)
    return padded > _PADDING * sum(height * width for height, width in sizes)
