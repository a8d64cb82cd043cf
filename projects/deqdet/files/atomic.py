"""Files are complete or not there: a process may be killed at any moment."""

import os
import os.path as osp
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator, Union

from mmengine.fileio import LocalBackend, register_backend

# Ending of a file that is being written, or whose writer was killed.
UNFINISHED = '.unfinished'

#: Name of :class:`AtomicBackend` among mmengine's file backends.
ATOMIC = 'atomic'


@contextmanager
def written_aside(filepath: Union[str, Path], *, writer: str = '') -> Iterator[str]:
    """A file gets its name when it is complete and on the disk; what was there before stays until then.

    Args:
        filepath (str or Path): The file; its folder is made if it is not there.
        writer (str): Tells apart processes that may write the same file at the same time.

    Yields:
        str: Where to write. After an exception this file is removed.

    Raises:
        OSError: With the name of the file, if it could not be written.
    """
    path = osp.abspath(filepath)
    folder, aside = osp.dirname(path), path + writer + UNFINISHED
    try:
        os.makedirs(folder, exist_ok=True)
        yield aside
        with open(aside, 'rb+') as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException as error:
        with suppress(OSError):
            os.remove(aside)
        if isinstance(error, OSError) and error.filename in (None, aside):
            # The error of a write, other than that of an open, does not say which file it was.
            raise OSError(error.errno, error.strerror, path) from error
        raise
    _sync_folder(folder)


@register_backend(ATOMIC)
class AtomicBackend(LocalBackend):
    """Local files that are written aside, brought to the disk, and then renamed."""

    def put(self, obj: Union[bytes, memoryview], filepath: Union[str, Path]) -> None:
        """Write a file; what was there before stays until the new one is complete.

        Args:
            obj (bytes or memoryview): The content.
            filepath (str or Path): The file; its folder is made if it is not there.

        Raises:
            OSError: With the name of the file, if it could not be written.
        """
        with written_aside(filepath) as aside, open(aside, 'wb') as file:
            file.write(obj)

    def put_text(self, obj: str, filepath: Union[str, Path], encoding: str = 'utf-8') -> None:
        """Write a text file, see :meth:`put`."""
        self.put(obj.encode(encoding), filepath)


def _sync_folder(folder):
    """Bring a rename to the disk, on file systems that let folders be synchronised."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
