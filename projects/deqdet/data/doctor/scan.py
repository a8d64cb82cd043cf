"""Reads every image once: whether it can be decoded, its size, and its hash."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, Optional, Tuple

import numpy as np
from mmengine import fileio

from ...compat.image_values import Values, decoded, values_in_use
from ...images.pillow import open_picture, picture_fault, size_fault

# EXIF tag for the orientation of a picture.
_ORIENTATION = 0x0112
# Seconds between lines of progress.
_EVERY = 10.0
# End markers of complete files. A few programs write some bytes after them.
_ENDS = {b'\xff\xd8': b'\xff\xd9', b'\x89PNG': b'IEND'}
_TAIL = 64
# Largest difference (of 255) between the darkest and the brightest pixel of a flat image.
_FLAT = 15


@dataclass(frozen=True)
class ImageFile:
    """Results of reading an image file.

    Attributes:
        digest (str): Hash of its bytes; empty if it is missing.
        size (tuple[int, int], optional): Width and height as the pipeline decodes it, after any turn by EXIF.
            None if it cannot be decoded.
        fault (str): ``missing``, or why it cannot be decoded; empty if it can.
        orientation (int): EXIF orientation: 1 is upright, 5 to 8 swap width and height.
        values (Values, optional): Values of more than 8 bits in use, if the pipeline does not scale them.
        flat (bool): Whether nearly all pixels have one colour.
    """

    digest: str = ''
    size: Optional[Tuple[int, int]] = None
    fault: str = ''
    orientation: int = 1
    values: Optional[Values] = None
    flat: bool = False


def scan(images: Iterable[Tuple[str, dict]], *, workers: int, report: Callable[[str], None]
         ) -> Dict[str, ImageFile]:
    """Read image files, each once.

    Args:
        images (Iterable[tuple]): Path, and how to read it, see ``Source.loading``.
        workers (int): Number of threads; decoding and hashing release Python's lock.
        report (Callable): Gets lines of progress.

    Returns:
        dict[str, ImageFile]: By path.
    """
    wanted = dict(images)
    found, begin, last = {}, time.monotonic(), time.monotonic()
    pool = ThreadPoolExecutor(max_workers=workers)
    try:
        for path, image in zip(wanted, pool.map(read_image_file, wanted, wanted.values())):
            found[path] = image
            now = time.monotonic()
            if now - last > _EVERY:
                last = now
                left = (now - begin) / len(found) * (len(wanted) - len(found))
                report(f'{len(found)} of {len(wanted)} images read, about {left:.0f} s left')
    finally:
        # After Ctrl-C, do not wait for the remaining images.
        pool.shutdown(cancel_futures=True)
    return found


def read_image_file(path: str, loading: dict) -> ImageFile:
    """Read one image file, from any path that mmengine's file backends read; see ``Source.loading``."""
    try:
        data = fileio.get(path, backend_args=loading['backend_args'])
    except FileNotFoundError:
        return ImageFile(fault='missing')
    except Exception as error:  # each backend raises its own errors
        return ImageFile(fault=str(error) or type(error).__name__)
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    try:
        picture = decoded(data, loading)
    except Exception as error:
        picture, reason = None, size_fault(error) or ''.join(str(error).strip().splitlines()[-1:])
    else:
        reason = ''
    values = None if loading.get('value_range') is not None else values_in_use(
        data, picture, by_pillow=loading['imdecode_backend'] == 'pillow')
    if picture is None:
        fault = _why_not_decoded(data, reason, loading)
        if values is not None:
            fault = f'{values.words} cannot be decoded to 8 bits: {values.setting}'
        return ImageFile(digest=digest, fault=fault)
    fault = '' if ends_well(data) else picture_fault(data)
    height, width = picture.shape[:2]
    return ImageFile(digest=digest, size=(width, height), fault=fault, orientation=_orientation(data),
                     values=values, flat=_is_flat(picture))


def ends_well(data) -> bool:
    """Whether a file has the end marker of its format. OpenCV decodes half a JPEG, the rest grey."""
    return next((end in data[-_TAIL:] for start, end in _ENDS.items() if data.startswith(start)), True)


def _is_flat(picture) -> bool:
    pixels = picture.reshape(-1, picture.shape[2] if picture.ndim == 3 else 1)
    # A small part is enough to recognise most images that are not flat.
    return all(part.size and (np.ptp(part, axis=0) <= _FLAT).all() for part in (pixels[::101], pixels))


def _why_not_decoded(data, reason, loading) -> str:
    """Why the decoder of the pipeline has no picture; ``reason`` is what it reported, if anything."""
    fault = picture_fault(data)
    if fault:
        return fault
    if loading['imdecode_backend'] == 'cv2':
        return reason or "cannot be decoded by OpenCV: convert it, or set imdecode_backend='pillow'"
    if 'decompression bomb' in reason:
        return f"{reason} It is Pillow's limit: set imdecode_backend='cv2'"
    return reason or 'cannot be decoded'


def _orientation(data) -> int:
    try:
        with open_picture(data) as picture:
            return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1  # Pillow knows fewer formats than OpenCV
