"""Detect truncated video files: compare the file size with the part sizes in the container.

The frame count of the header is no evidence. Piped files have none. After a cut with ``ffmpeg -c copy`` the
header also counts frames that are not shown.
"""

import os
from pathlib import Path
from typing import BinaryIO, Optional

# Matroska segment and cluster. Their size may be unknown; then their children follow.
_SEGMENT, _CLUSTER = 0x18538067, 0x1f43b675


def lacks_its_end(path: Path, *, complete: bool = False) -> bool:
    """Whether a video file is shorter than its container records; False for other formats.

    Supported: MP4 and its relatives, AVI, Matroska and WebM, FLV, and MPEG transport streams.

    Args:
        path (Path): The file.
        complete (bool): The expected number of frames was read. Then only an index can be missing. This has
            no effect for a transport stream: it has no index, and FFmpeg estimates its number of frames from
            the file size.
    """
    with open(path, 'rb') as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        start = file.read(12)
        file.seek(0)
        if start[4:8] in (b'ftyp', b'moov', b'mdat', b'wide', b'free', b'skip'):
            step = _mp4
        elif start[:4] == b'RIFF':
            step = _riff
        elif start[:4] == b'\x1aE\xdf\xa3':
            step = _matroska
        elif start[:3] == b'FLV':
            file.seek(13)
            step = _flv
        else:
            return start[:1] == b'\x47' and start[:3] != b'GIF' and size % 188 > 0 and size % 204 > 0
        if complete:
            return False
        while file.tell() < size:
            begin = file.tell()
            end = step(file)
            if end is None:  # unknown size: up to the end of the file, or child parts follow
                return False
            if end > size:
                return True
            if end <= begin:  # not a part: the data after the last part belongs to another format
                return False
            file.seek(end)
    return False


def _mp4(file: BinaryIO) -> Optional[int]:
    begin, head = file.tell(), file.read(8)
    length, kind = int.from_bytes(head[:4], 'big'), head[4:]
    if len(head) < 8 or not kind.isalnum() and kind.strip(b' \xa9') == b'':
        return begin
    if length == 0:
        return None
    return begin + (int.from_bytes(file.read(8), 'big') if length == 1 else length)


def _riff(file: BinaryIO) -> Optional[int]:
    begin, head = file.tell(), file.read(8)
    length = int.from_bytes(head[4:], 'little')
    if head[:4] != b'RIFF':
        return begin
    # Programs that cannot seek in their output leave one of these two values.
    return begin + 8 + length if length not in (0, 2 ** 32 - 1) else None


def _matroska(file: BinaryIO) -> Optional[int]:
    kind = _number(file, keep_marker=True)
    length = _number(file, keep_marker=False)
    if kind is None or kind == 0:
        return 0
    if length is None:
        return file.tell() if kind in (_SEGMENT, _CLUSTER) else None
    return file.tell() + length


def _number(file, *, keep_marker) -> Optional[int]:
    """A number of variable length; None at the end of the file, or if all bits are set (unknown size)."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    width = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(width - 1), 'big')
    if keep_marker:
        return value
    value &= (1 << 7 * width) - 1
    return None if value == (1 << 7 * width) - 1 else value


def _flv(file: BinaryIO) -> Optional[int]:
    begin, head = file.tell(), file.read(11)
    if head[:1] not in (b'\x08', b'\x09', b'\x12'):
        return begin
    return begin + 11 + int.from_bytes(head[1:4], 'big') + 4
