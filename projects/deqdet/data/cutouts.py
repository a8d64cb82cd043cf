"""Cut-outs and backgrounds in folders: what cannot be used, copies, and which split gets which file."""

import hashlib
from pathlib import Path
from typing import Callable, Dict, Iterable, List, NamedTuple, Sequence, Tuple

import numpy as np
from PIL import UnidentifiedImageError

from ..compat.image_values import decoded
from ..errors import UsageError, shown_name
from ..images.pillow import read_with_alpha
from .doctor.scan import ImageFile, scan
from .findings import some_of

#: The fault of a cut-out without background to see through.
OPAQUE = 'without transparency'

# The order of files in splits does not depend on the seed of the pictures.
_SPLIT_SEED = 320
# How backgrounds are read: as mmdet reads the pictures of a data set.
_LOADING = dict(backend_args=None, color_type='color', imdecode_backend='cv2', value_range=None)


class Cutout(NamedTuple):
    """A picture of an object without background.

    Attributes:
        name (str): Path below the folder of all cut-outs, with slashes.
        label (int): Number of its class, from 0.
    """

    name: str
    label: int


class Part(NamedTuple):
    """A part of a background, or all of it.

    Attributes:
        name (str): Path below the folder of all backgrounds, with slashes.
        rows, columns (slice): The part.
    """

    name: str
    rows: slice = slice(None)
    columns: slice = slice(None)


class Material(NamedTuple):
    """Files that can be used.

    Attributes:
        names (list[str]): Paths below their folder, with slashes.
        faults (dict[str, list[str]]): Names of the files that cannot be used, by reason.
        copies (list[str]): Files with the bytes of an earlier one.
        digest (str): SHA-256 over names and bytes of the usable files.
    """

    names: List[str]
    faults: Dict[str, List[str]]
    copies: List[str]
    digest: str

    def refuse(self, folder: Path, advice: str) -> None:
        """Raise one line about all files that cannot be used.

        Raises:
            UsageError: If there are any.
        """
        if self.faults:
            total = self.bad + len(self.names) + len(self.copies)
            raise UsageError(f'{folder}: {self.bad} of {total} pictures cannot be used: {self.reasons}: '
                             f'{advice}', 'bad-image')

    @property
    def bad(self) -> int:
        """Number of files that cannot be used."""
        return sum(map(len, self.faults.values()))

    @property
    def reasons(self) -> str:
        """Each reason, with the number of its files and the first names."""
        return '; '.join(f'{len(names)} {reason} ({some_of([shown_name(name) for name in names], 3)})'
                         for reason, names in self.faults.items())


def read_cutouts(folder: Path, names: Sequence[str]) -> Material:
    """Read all cut-outs once, to find those that cannot be used.

    Args:
        folder (Path): The folder of all cut-outs.
        names (Sequence[str]): Paths below it.
    """
    return _sorted_out(names, ((_digest(folder / name), _fault(folder / name)) for name in names))


def read_backgrounds(folder: Path, names: Sequence[str], *, workers: int, report: Callable[[str], None]
                     ) -> Material:
    """Read all backgrounds once, to find those that cannot be used.

    Args:
        folder (Path): Their folder.
        names (Sequence[str]): Paths below it.
        workers (int): Number of threads.
        report (Callable): Gets lines of progress.
    """
    found: Dict[str, ImageFile] = scan(
        [(str(folder / name), _LOADING) for name in names], workers=workers, report=report)
    files = [found[str(folder / name)] for name in names]
    return _sorted_out(names, ((each.digest, f'cannot be read: {each.fault}' if 'needs' in each.fault
                                else 'cannot be read' if each.fault else '') for each in files))


def _sorted_out(names, results: Iterable[Tuple[str, str]]) -> Material:
    """Files by their digest, and the reason why each cannot be used."""
    used: Dict[str, str] = {}
    faults: Dict[str, List[str]] = {}
    copies = []
    for name, (digest, fault) in zip(names, results):
        if fault:
            faults.setdefault(fault, []).append(name)
        elif digest in used:
            copies.append(name)
        else:
            used[digest] = name
    total = hashlib.sha256(''.join(f'{name}\0{digest}\n' for digest, name in used.items()).encode(
        'utf-8', 'surrogateescape'))
    return Material(list(used.values()), faults, copies, total.hexdigest())


def _digest(path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ''


def _fault(path) -> str:
    """Why a file is no cut-out; empty if it is one."""
    try:
        alpha = read_with_alpha(path.read_bytes())[..., 3]
    except (UsageError, UnidentifiedImageError) as error:  # it may need a package, or have too many pixels
        return f'cannot be read: {getattr(error, "message", error)}'
    except Exception:  # Pillow raises many types for broken files
        return 'cannot be read'
    if alpha.min() == 255:
        return OPAQUE
    return 'without a visible pixel' if alpha.max() < 128 else ''


def check_apart(folder: Path, cutouts: Sequence[str], backgrounds: Path, photographs: Sequence[str]) -> None:
    """Refuse backgrounds that are cut-outs: objects without annotation would be in the pictures.

    Args:
        folder, backgrounds (Path): The folders of both.
        cutouts, photographs (Sequence[str]): Paths below them.

    Raises:
        UsageError: If a file, or the target of a link, is in both.
    """
    own = {(folder / name).resolve() for name in cutouts}
    both = [shown_name(name) for name in photographs if (backgrounds / name).resolve() in own]
    if both:
        raise UsageError(f'{backgrounds}: {len(both)} backgrounds are also cut-outs ({some_of(both, 3)}): '
                         'use a folder that has only photographs', 'bad-argument')


def shares_of(count: int, shares: Sequence[float]) -> List[int]:
    """How many of ``count`` files each split gets: at least one, and the first one gets the rest.

    Args:
        count (int): Number of files, at least the number of splits.
        shares (Sequence[float]): Relative size of each split.
    """
    others = [max(1, int(count * share / sum(shares))) for share in shares[1:]]
    return [count - sum(others), *others]


def split_files(names: Sequence[str], shares: Sequence[float], salt: int) -> List[List[str]]:
    """Give each file to one split, in an order that does not depend on the seed of the pictures.

    Args:
        names (Sequence[str]): The files, sorted; at least as many as splits.
        shares (Sequence[float]): Relative size of each split.
        salt (int): Gives other files another order.
    """
    order = np.random.default_rng([_SPLIT_SEED, salt]).permutation(len(names))
    ends = np.cumsum(shares_of(len(names), shares))[:-1]
    return [sorted(names[index] for index in part) for part in np.split(order, ends)]


def read_background(path: Path) -> np.ndarray:
    """Read a photograph, turned by its EXIF data: BGR, uint8, has shape (H, W, 3).

    Raises:
        UsageError: If it cannot be decoded.
    """
    picture = decoded(path.read_bytes(), _LOADING)
    if picture is None:
        raise UsageError(f'{path} cannot be read', 'bad-image')
    return picture


def share_backgrounds(folder: Path, names: Sequence[str], shares: Sequence[float]) -> List[List[Part]]:
    """Give each background to one split. If there are fewer than splits, each split gets a part of every one.

    A part has all pixels of the shorter side, and its share of the longer side.

    Args:
        folder (Path): The folder of all backgrounds.
        names (Sequence[str]): The backgrounds, sorted.
        shares (Sequence[float]): Relative size of each split.

    Raises:
        UsageError: If a background is too small to be shared.
    """
    if len(names) >= len(shares):
        return [[Part(name) for name in of_split] for of_split in split_files(names, shares, len(names))]
    parts: List[List[Part]] = [[] for _ in shares]
    for name in names:
        height, width = read_background(folder / name).shape[:2]
        longer = max(height, width)
        if longer < len(shares):
            raise UsageError(f'{folder / name}: {width} x {height} pixels are too few for {len(shares)} '
                             'splits: remove it, or add larger photographs', 'bad-image')
        ends = np.cumsum([0, *shares_of(longer, shares)]).tolist()
        for of_split, begin, end in zip(parts, ends, ends[1:]):
            strip = slice(begin, end)
            of_split.append(Part(name, columns=strip) if width >= height else Part(name, rows=strip))
    return parts
