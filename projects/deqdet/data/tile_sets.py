"""Cut large pictures into tiles, and write pictures as a data set in COCO's format."""

import json
import math
import re
from pathlib import Path
from typing import Any, Collection, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Union

import cv2
import numpy as np

from ..errors import UsageError
from ..files.atomic import written_aside


class Tile(NamedTuple):
    """A picture of a data set.

    Attributes:
        name (str): File name, from :func:`tile_name` for a part of a picture.
        picture (np.ndarray): BGR or grey, uint8, has shape (H, W, 3) or (H, W).
        objects (Sequence[dict]): Its annotations, without ids of annotation and image.
        about (Mapping): Further entries of the image in the file.
    """

    name: str
    picture: np.ndarray
    objects: Sequence[dict]
    about: Mapping[str, Any] = {}


def starts(begin: int, end: int, tile: int, stride: int) -> List[int]:
    """Where the tiles along one axis start: at every stride, and a last one at the end."""
    return sorted({*range(begin, end - tile + 1, stride), end - tile})


def spread_starts(begin: int, end: int, tile: int, overlap: int = 0) -> List[int]:
    """Where the fewest tiles that cover an axis start, evenly spread.

    Args:
        begin, end (int): The part of the axis, in pixels.
        tile (int): Side of a tile, at most ``end - begin``.
        overlap (int): Pixels that neighbours share at least; below ``tile``.
    """
    count = max(1, math.ceil((end - begin - overlap) / (tile - overlap)))
    return np.rint(np.linspace(begin, end - tile, count)).astype(int).tolist()


def tile_name(y: int, x: int) -> str:
    """File name of the tile whose upper left pixel is in this row and column."""
    return f'y{y:04d}_x{x:04d}.png'


def rows_of(height: int, test_rows: int, gap: int, names: Sequence[str] = ('train', 'val')
            ) -> Dict[str, slice]:
    """The rows of both sides of a picture; ``gap`` rows between them are not used."""
    return {names[0]: slice(0, height - test_rows - gap), names[1]: slice(height - test_rows, height)}


def check_folder(out: Path, arguments: Mapping[str, Any], parts: Mapping[str, str], *, overwrite: bool
                 ) -> None:
    """Refuse a data set of other arguments, unless it is to be replaced; then remove its pictures.

    Args:
        out (Path): Folder of the data set.
        arguments (dict): What the pictures depend on.
        parts (dict[str, str]): Folder of the pictures of each annotation file.
        overwrite (bool): Replace it.

    Raises:
        UsageError: If the data set is of other arguments, or by another program.
    """
    for part, folder in parts.items():
        path = out / 'annotations' / f'{part}.json'
        if not path.exists():
            continue
        try:
            data = json.loads(path.read_text(encoding='utf-8'))
            found = data['info']['arguments']
            names = [image['file_name'] for image in data['images']]
        except (ValueError, KeyError, TypeError):
            found, names = None, []
        if found == arguments:
            continue
        if not overwrite:
            raise UsageError(f'{path} is of other arguments, or not by this command: use another --out, or '
                             'add --overwrite', 'output-exists')
        path.unlink()
        # Only pictures with names that these programs give.
        for name in names:
            if re.fullmatch(r'(y\d{4,}_x\d{4,}|[a-z]+|\d{6})\.png', str(name)):
                (out / folder / name).unlink(missing_ok=True)


def check_outside(out: Path, parts: Sequence[str], sources: Sequence[Path]) -> None:
    """Refuse to write pictures into a folder that is read, or to read one that is written.

    Args:
        out (Path): Folder of the data set.
        parts (Sequence[str]): Its folders of pictures.
        sources (Sequence[Path]): Folders that are read.

    Raises:
        UsageError: If the data set is in a source, or a source is in its pictures.
    """
    target = out.resolve()
    for folder in sources:
        source = folder.resolve()
        if source in (target, *target.parents) or any(
                target / part in (source, *source.parents) for part in parts):
            raise UsageError(f'--out {out}: the pictures would be mixed with those of {folder}: choose a '
                             'folder outside of it', 'bad-argument')


def remove_others(folder: Path, names: Collection[str]) -> None:
    """Remove pictures of an earlier, larger data set: names are numbers, but not in ``names``."""
    for path in folder.iterdir():
        if re.fullmatch(r'\d{6}\.png', path.name) and path.name not in names:
            path.unlink()


def write_part(out: Path, part: str, tiles: Iterable[Tile], category: Union[dict, Sequence[dict]],
               info: Mapping[str, Any], *, folder: str = '') -> dict:
    """Write pictures, then their annotation file.

    Args:
        out (Path): Folder of the data set.
        part (str): Name of the annotation file, and of the folder of pictures.
        tiles (Iterable[Tile]): The pictures.
        category (dict or Sequence[dict]): ``name`` and ``supercategory`` of the one class, or of each class.
            They get the ids 1, 2, ...
        info (dict): Where the data comes from.
        folder (str): Another name of the folder of pictures.

    Returns:
        dict: The content of the annotation file.

    Raises:
        OSError: If a file cannot be written.
    """
    images: List[dict] = []
    annotations: List[dict] = []
    (out / (folder or part)).mkdir(parents=True, exist_ok=True)
    for tile in tiles:
        # OpenCV reports a failure to write by False only.
        (out / (folder or part) / tile.name).write_bytes(cv2.imencode('.png', tile.picture)[1].tobytes())
        height, width = tile.picture.shape[:2]
        images.append(dict(id=len(images) + 1, file_name=tile.name, width=width, height=height, **tile.about))
        annotations += [dict(id=len(annotations) + number, image_id=len(images), **each)
                        for number, each in enumerate(tile.objects, 1)]
    categories = [category] if isinstance(category, dict) else category
    data = dict(info=dict(info), images=images, annotations=annotations,
                categories=[dict(id=number, **each) for number, each in enumerate(categories, 1)])
    with written_aside(out / 'annotations' / f'{part}.json') as aside:
        Path(aside).write_text(json.dumps(data) + '\n', encoding='utf-8')
    return data
