"""Frames of videos, read one by one; those that cannot be read are told from the others."""

import hashlib
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence

import mmcv
import numpy as np

from ..errors import UsageError
from .inputs import split_names
from .reading import BrokenFileError, read_with

# As mmcv.imread reads what it is not told about.
_LOADING: Dict[str, Any] = dict(color_type='color', imdecode_backend='cv2', backend_args=None)


class ReadFrame(NamedTuple):
    """A frame, or why there is none.

    Attributes:
        name (str): Its file; of a video file that of the video.
        image (np.ndarray, optional): BGR, uint8, has shape (H, W, 3). None if it is broken.
        reason (str): Why it is broken.
    """

    name: str
    image: Optional[np.ndarray]
    reason: str = ''

    def whole(self) -> np.ndarray:
        """The image.

        Raises:
            UsageError: If it is broken.
        """
        if self.image is None:
            raise UsageError(f'frame {self.name} cannot be read ({self.reason}): replace it or take it away')
        return self.image


class Frames:
    """Frames of a video file, or of a folder of images in the order of their names.

    All frames of a folder have the size of its first one that can be read; one of another size is broken.

    Args:
        path (Path): File or folder.

    Attributes:
        rate (float): Frames a second; 10 for a folder.

    Raises:
        UsageError: If there are none.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        if self._path.is_dir():
            names, _ = split_names(os.listdir(self._path))
            self._frames: Sequence[Any] = [self._path / name for name in names]
            self.rate = 10.0
        elif self._path.is_file():
            video = mmcv.VideoReader(str(self._path))
            self._frames, self.rate = video, video.fps or 10.0
        else:
            raise UsageError(f'{self._path}: no regular file' if self._path.exists() else
                             f'no file or folder {self._path}')
        if not len(self._frames):
            raise UsageError(f'{self._path}: no frames; give a video that OpenCV reads, or a folder of '
                             'images')

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[np.ndarray]:
        """The images; UsageError at a frame that cannot be read."""
        for frame in self.read():
            yield frame.whole()

    def read(self) -> Iterator[ReadFrame]:
        """All frames, broken ones among them."""
        size: Optional[tuple] = None
        for frame in self._frames:
            if not isinstance(frame, Path):
                yield ReadFrame(str(self._path), frame)
                continue
            name = str(frame)
            try:
                image = read_with(lambda data: mmcv.imread(data['img_path']), name, _LOADING)
            except BrokenFileError as error:
                yield ReadFrame(name, None, error.reason)
                continue
            height, width = image.shape[:2]
            size = size or (width, height)
            if size == (width, height):
                yield ReadFrame(name, image)
            else:
                yield ReadFrame(name, None, f'{width} x {height} pixels, but the frames before it have '
                                            f'{size[0]} x {size[1]}')

    def stamp(self) -> List[Any]:
        """Tells whether the file, or any frame of the folder, is still the same."""
        if not self._path.is_dir():
            return _stamp(self._path)
        stamps = [[os.fsencode(file.name), *_stamp(file)] for file in self._frames]
        return [len(stamps), hashlib.sha256(repr(stamps).encode()).hexdigest()]


def _stamp(path):
    try:
        status = os.stat(path)
    except OSError:
        return [None, None]
    return [status.st_size, status.st_mtime_ns]
