"""Read videos frame by frame. A frame that cannot be read is reported and does not stop the others."""

import hashlib
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, List, Optional, Union

import cv2
import numpy as np

from ..errors import UsageError
from .containers import lacks_its_end
from .formats import is_address
from .inputs import split_names
from .reading import Frame, ImageReader

# Default frames per second, and the plausible ranges of header values. NaN is outside every range.
_RATE, _RATES, _COUNTS = 10.0, (0.01, 1000.0), (1, 10 ** 7)
_USE = 'use a video that OpenCV can read, or a folder of images'
# This many failed frames in a row mean the end of a video whose header counts no more frames.
_ATTEMPTS = 10_000


class Frames:
    """Frames of a video file, or of a folder of images in the order of their names.

    The first readable frame sets the size; a frame of another size is broken. A video file is read to its
    end, whatever number of frames its header records. The last frame of a truncated video file is broken.

    Args:
        path (str or Path): File or folder.

    Attributes:
        rate (float): Frames per second; 10 for a folder, and for a video whose header has no usable number.
        count (int, optional): Number of frames, None if unknown. For a video file it comes from the header,
            which may be wrong.

    Raises:
        UsageError: If there are no frames.
    """

    def __init__(self, path: Union[str, Path]) -> None:
        self._path = Path(path)
        self.rate, self.count = _RATE, None  # type: float, Optional[int]
        if self._path.is_dir():
            self.count = len(_images_in(self._path))
            if not self.count:
                raise UsageError(f'{path} has no images: {_USE}', 'missing-file')
            return
        if not self._path.exists():
            raise UsageError(f'{path} does not exist', 'missing-file')
        if not self._path.is_file():
            raise UsageError(f'{path} is not a regular file', 'bad-image')
        with _opened(self._path) as video:
            self.rate = _sensible(video.get(cv2.CAP_PROP_FPS), _RATES) or _RATE
            count = _sensible(video.get(cv2.CAP_PROP_FRAME_COUNT), _COUNTS)
            self.count = int(count) if count else None
            if all(image is None for image in self._decoded(video)):
                raise UsageError(f'{path} has no frames: ' + (
                    'the file is truncated; download or copy it again' if lacks_its_end(self._path) else
                    _USE), 'bad-image')

    def __iter__(self) -> Iterator[Frame]:
        """All frames in order."""
        size: Optional[tuple] = None
        for number, frame in enumerate(self._frames()):
            if frame.image is not None:
                height, width = frame.image.shape[:2]
                size = size or (width, height)
                if size != (width, height):
                    frame = frame._replace(image=None, reason=f'{width} x {height} pixels, but the frames '
                                                              f'before it have {size[0]} x {size[1]}')
            yield frame._replace(number=number, data=None)

    def _frames(self) -> Iterator[Frame]:
        if self._path.is_dir():
            yield from ImageReader().frames(map(str, _images_in(self._path)))
            return
        name, number = str(self._path), 0
        with _opened(self._path) as video:
            for number, image in enumerate(self._decoded(video), 1):
                yield Frame(name, image, '' if image is not None else
                            f'frame {number - 1} (from 0) cannot be decoded')
        complete = self.count is not None and number >= self.count
        if lacks_its_end(self._path, complete=complete):
            of = f' of {self.count}' if self.count else ''
            yield Frame(name, None, f'the file is truncated: it ends after {number}{of} frames')

    def _decoded(self, video: cv2.VideoCapture) -> Iterator[Optional[np.ndarray]]:
        """All frames of a video; None for each frame that cannot be decoded.

        OpenCV reports an undecodable frame and the end of the video alike. Only after the former it finds
        more, or has just read a key frame.
        """
        expected = self.count or 0
        number = failed = certain = 0
        while failed - certain < max(_ATTEMPTS, expected - number):
            good, image = video.read()
            if not good:
                failed += 1
                if video.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME) == 1:
                    certain = failed
                continue
            yield from [None] * failed
            number += failed + 1
            failed = certain = 0
            yield image
        if not lacks_its_end(self._path):
            yield from [None] * (min(certain, expected - number) if expected >= number else certain)


def stamp_of(path: Union[str, Path]) -> Optional[List[Any]]:
    """A fingerprint of a file, or of the images in a folder; None for addresses and missing files."""
    if is_address(path):
        return None
    try:
        if os.path.isdir(path):
            stamps = [[os.fsencode(file.name), *(stamp_of(file) or (None, None))]
                      for file in _images_in(Path(path))]
            return [len(stamps), hashlib.sha256(repr(stamps).encode()).hexdigest()]
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _images_in(folder: Path) -> List[Path]:
    return [folder / name for name in split_names(os.listdir(folder))[0]]


@contextmanager
def _opened(path) -> Iterator[cv2.VideoCapture]:
    video = cv2.VideoCapture(str(path))
    try:
        yield video
    finally:
        video.release()


def _sensible(value, limits) -> Optional[float]:
    """A number from a header, or None if it is implausible."""
    return value if limits[0] <= value <= limits[1] else None
