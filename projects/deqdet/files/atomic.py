"""Files are complete or absent, even if a process is killed while it writes."""

import os
import os.path as osp
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator, Union

from mmengine.fileio import LocalBackend, register_backend

# Extension of a file that is being written, or whose writer was killed.
UNFINISHED = '.unfinished'

#: Name of :class:`AtomicBackend` among mmengine's file backends.
ATOMIC = 'atomic'


@contextmanager
def written_aside(filepath: Union[str, Path], *, writer: str = '') -> Iterator[str]:
    """Write a file that gets its name only when it is complete and on the disk. An old file stays until then.

    Args:
        filepath (str or Path): The file; its folder is created if missing.
        writer (str): Distinguishes processes that may write the same file at the same time.

    Yields:
        str: The path to write to. After an exception this file is removed.

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
            # Errors of a write, unlike those of an open, do not name the file.
            raise OSError(error.errno, error.strerror, path) from error
        raise
    _sync_folder(folder)


@register_backend(ATOMIC)
class AtomicBackend(LocalBackend):
    """Local files that are written under another name, flushed to the disk, and then renamed."""

    def put(self, obj: Union[bytes, memoryview], filepath: Union[str, Path]) -> None:
        """Write a file, see :func:`written_aside`."""
        with written_aside(filepath) as aside, open(aside, 'wb') as file:
            file.write(obj)

    def put_text(self, obj: str, filepath: Union[str, Path], encoding: str = 'utf-8') -> None:
        """Write a text file, see :meth:`put`."""
        self.put(obj.encode(encoding), filepath)


def _sync_folder(folder):
    """Flush a rename to the disk, on file systems that can synchronise folders."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
