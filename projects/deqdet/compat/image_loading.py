"""Images that cannot be read are named, whatever OpenCV or the file system says of them."""

from contextlib import contextmanager
from typing import Iterator

import cv2
from mmcv.transforms import LoadImageFromFile

from ..errors import UsageError

_MEND = ('replace it, or take it out of the annotation file; a training goes on from its last checkpoint with '
         '--resume')


@contextmanager
def images_named_in_errors() -> Iterator[None]:
    """Inside, and in loader workers that are forked inside, mmcv's loader names the image it cannot read.

    It says so itself of what OpenCV returns None for. Of an empty file OpenCV raises an error without the
    name; folders, files without permission and names that are none end in errors of the system.
    """
    original = LoadImageFromFile.transform

    def transform(self, results: dict) -> dict:
        path = results.get('img_path')
        try:
            return original(self, results)
        except FileNotFoundError:
            raise
        except AssertionError as error:
            raise UsageError(f'image {path} cannot be read, it is truncated, damaged or no image: {_MEND}'
                             ) from error
        except cv2.error as error:
            reason = 'it is empty' if '.empty()' in str(error) else f'OpenCV says {error.err}'
            raise UsageError(f'image {path} cannot be read, {reason}: {_MEND}') from error
        except (OSError, ValueError) as error:
            reason = getattr(error, 'strerror', None) or error
            raise UsageError(f'image {path!r} cannot be read ({reason}): {_MEND}') from error

    LoadImageFromFile.transform = transform
    try:
        yield
    finally:
        LoadImageFromFile.transform = original
