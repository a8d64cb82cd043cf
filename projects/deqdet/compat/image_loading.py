"""Adds the name of the image to errors of OpenCV and of the file system."""

from contextlib import contextmanager
from typing import Any, Iterator

import cv2
from mmcv.transforms import BaseTransform, LoadImageFromFile

from ..errors import UsageError
from ..images.pillow import size_fault

_FIX = 'replace it, or remove it from the annotation file; --resume continues a training'


@contextmanager
def images_named_in_errors() -> Iterator[None]:
    """Inside, and in loader workers forked inside, pipeline steps name the image on which they fail.

    mmcv's loader names an image only if OpenCV returns None. OpenCV raises an error without the name for an
    empty file, or an image that is resized to nothing. Folders, files without permission and invalid names
    give errors of the system. Errors of other kinds come from the pipeline and do not change.
    """
    original = BaseTransform.__call__

    def call(self, results: Any) -> Any:
        try:
            return original(self, results)
        except (UsageError, FileNotFoundError):
            raise
        except KeyError as error:
            if error.args[:1] not in (('img', ), ('img_path', ), ('gt_bboxes', ), ('instances', )):
                raise
            raise UsageError(f'step {type(self).__name__} of the pipeline needs {error}, but no step '
                             'before gives it: load image and annotations first', 'bad-sample') from error
        except (cv2.error, AssertionError, OSError, ValueError) as error:
            if not isinstance(error, cv2.error) and not isinstance(self, LoadImageFromFile):
                raise
            raise UsageError(f'{_failure(self, results, error)}: {_FIX}', 'bad-image') from error

    BaseTransform.__call__ = call
    try:
        yield
    finally:
        BaseTransform.__call__ = original


def _failure(step, results, error) -> str:
    results = results if isinstance(results, dict) else {}
    path, picture = results.get('img_path'), results.get('img')
    if isinstance(step, LoadImageFromFile):
        reason = 'it is truncated, damaged or not an image'
        if isinstance(error, cv2.error):
            reason = 'it is empty' if '.empty()' in str(error) else size_fault(error) or \
                f'OpenCV reports {error.err}'
        elif not isinstance(error, AssertionError):
            reason = getattr(error, 'strerror', None) or str(error)
        return f'image {path} cannot be read, {reason}'
    shape = getattr(picture, 'shape', None)
    size = f' of {shape[1]} x {shape[0]} px' if shape else ''
    return (f'step {type(step).__name__} of the pipeline fails on image {path}{size} (OpenCV reports '
            f'{error.err}), perhaps because a side has no pixel left')
