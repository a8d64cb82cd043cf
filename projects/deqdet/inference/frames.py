"""Frames of videos, read one by one; those that cannot be read are told from the others."""

import hashlib
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, cast

import cv2
import mmcv
import numpy as np

from ..errors import UsageError
from .containers import lacks_its_end
from .inputs import split_names
from .reading import BrokenFileError, read_with

# As mmcv.imread reads what it is not told about.
_LOADING: Dict[str, Any] = dict(color_type='color', imdecode_backend='cv2', backend_args=None)

# Frames a second where nothing says it, and what can be believed of a header: NaN is in no range.
_RATE, _RATES, _COUNTS = 10.0, (0.01, 1000.0), (1, 10 ** 8)
# Frames in a row that may fail before it is the end.
_ATTEMPTS = 100


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

    All frames have the size of the first one that can be read; one of another size is broken. A video file is
    read to its end, whatever its header says of their number.

    Args:
        path (Path): File or folder.

    Attributes:
        rate (float): Frames a second; 10 for a folder, and for a video whose header has no usable number.
        count (int, optional): How many there are; None if that is unknown. Of a video file it is what the
            header says, which may be wrong.

    Raises:
        UsageError: If there are none.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        self._files: Optional[List[Path]] = None
        self.rate, self.count = _RATE, cast(Optional[int], None)
        if self._path.is_dir():
            names, _ = split_names(os.listdir(self._path))
            self._files = [self._path / name for name in names]
            self.count = len(names)
        elif self._path.is_file():
            with _opened(self._path) as video:
                self.rate = _sensible(video.get(cv2.CAP_PROP_FPS), _RATES) or _RATE
                count = _sensible(video.get(cv2.CAP_PROP_FRAME_COUNT), _COUNTS)
                self.count = int(count) if count else None
                there = next(_decoded(video), None) is not None
        else:
            raise UsageError(f'{self._path}: no regular file' if self._path.exists() else
                             f'no file or folder {self._path}')
        if not (self._files if self._files is not None else there):
            cut = self._files is None and lacks_its_end(self._path)
            raise UsageError(f'{self._path}: no frames; ' + (
                'the file is truncated: fetch or copy it again' if cut else
                'give a video that OpenCV reads, or a folder of images'))

    def __iter__(self) -> Iterator[np.ndarray]:
        """The images; UsageError at a frame that cannot be read."""
        for frame in self.read():
            yield frame.whole()

    def read(self) -> Iterator[ReadFrame]:
        """All frames, broken ones among them; the last one of a truncated video file is broken."""
        size: Optional[tuple] = None
        for frame in self._video_frames() if self._files is None else map(_frame_of, self._files):
            if frame.image is None:
                yield frame
                continue
            height, width = frame.image.shape[:2]
            size = size or (width, height)
            yield frame if size == (width, height) else ReadFrame(
                frame.name, None, f'{width} x {height} pixels, but the frames before it have '
                                  f'{size[0]} x {size[1]}')

    def _video_frames(self) -> Iterator[ReadFrame]:
        name, number = str(self._path), 0
        with _opened(self._path) as video:
            for number, image in enumerate(_decoded(video), 1):
                yield ReadFrame(name, image, '' if image is not None else
                                f'frame {number - 1} (from 0) cannot be decoded')
        complete = self.count is not None and number >= self.count
        if lacks_its_end(self._path, complete=complete):
            of = f' of {self.count}' if self.count else ''
            yield ReadFrame(name, None, f'the file is truncated: it ends after {number}{of} frames')

    def stamp(self) -> List[Any]:
        """Tells whether the file, or any frame of the folder, is still the same."""
        if not self._path.is_dir():
            return _stamp(self._path)
        stamps = [[os.fsencode(file.name), *_stamp(file)] for file in self._files or []]
        return [len(stamps), hashlib.sha256(repr(stamps).encode()).hexdigest()]


@contextmanager
def _opened(path) -> Iterator[cv2.VideoCapture]:
    video = cv2.VideoCapture(str(path))
    try:
        yield video
    finally:
        video.release()


def _decoded(video: cv2.VideoCapture) -> Iterator[Optional[np.ndarray]]:
    """Frames to the end; None in the place of one that cannot be decoded.

    OpenCV tells a frame that it cannot decode and the end alike; only behind the first it finds more.
    """
    failed = 0
    while failed < _ATTEMPTS:
        good, image = video.read()
        if not good:
            failed += 1
            continue
        yield from [None] * failed
        failed = 0
        yield image


def _sensible(value, limits) -> Optional[float]:
    """A number of a header, if it can be one."""
    return value if limits[0] <= value <= limits[1] else None


def _frame_of(file: Path) -> ReadFrame:
    name = str(file)
    try:
        image = read_with(lambda data: data['img'] if 'img' in data else mmcv.imread(data['img_path']), name,
                          _LOADING)
    except BrokenFileError as error:
        return ReadFrame(name, None, error.reason)
    return ReadFrame(name, image)


def _stamp(path):
    try:
        status = os.stat(path)
    except OSError:
        return [None, None]
    return [status.st_size, status.st_mtime_ns]
