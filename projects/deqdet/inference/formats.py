"""Recognise images and videos: by their content if the file exists, else by the file extension."""

import os.path as osp
import re
from pathlib import Path
from typing import Union
from urllib.parse import urlsplit

from mmengine.fileio.backends import prefix_to_backends
from PIL import Image

from ..errors import UsageError

Word = Union[str, Path]

# OpenCV decodes these; Pillow does not list the extension.
_OPENCV = {'.jpe', '.jp2', '.pxm', '.sr', '.ras', '.hdr', '.pic', '.avif', '.webp', '.jfif', '.mpo'}
# Pillow identifies these but needs other programs to decode them, or they are videos.
_NO_PICTURES = {'BUFR', 'GRIB', 'HDF5', 'MPEG', 'WMF', 'EPS', 'FITS', 'IPTC'}
# These need the package pillow-heif; if it is missing, the error message names it.
HEIF = ('.heic', '.heif', '.hif')


def _image_endings() -> tuple:
    Image.init()
    pillow = {ending for ending, kind in Image.EXTENSION.items()
              if kind in Image.OPEN and kind not in _NO_PICTURES}
    return tuple(sorted(pillow | _OPENCV | set(HEIF)))


#: Extensions of the images that a folder search finds: those that OpenCV or Pillow can read. A file that is
#: named explicitly needs none of them.
IMAGES = _image_endings()

#: Extensions of videos.
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.mpe', '.wmv', '.asf', '.flv',
          '.3gp', '.3g2', '.m2ts', '.m2v', '.ogv', '.vob', '.mxf', '.qt')

# TypeScript programs also have these extensions.
_STREAMS_OR_PROGRAMS = ('.ts', '.mts')

# Raw data of cameras, drawings and documents.
_NO_IMAGES = ('.dng', '.raw', '.cr2', '.cr3', '.nef', '.nrw', '.arw', '.orf', '.rw2', '.raf', '.pef', '.srw',
              '.svg', '.svgz', '.pdf', '.eps', '.ps', '.ai', '.wmf', '.emf')

# Files that systems and archives leave in folders. Hidden files are skipped anyway.
_NOISE = {'thumbs.db', 'ehthumbs.db', 'desktop.ini', '__macosx', '@eadir'}

# ISO media files with pictures, not videos.
_PICTURE_BRANDS = (b'avif', b'avis', b'heic', b'heix', b'heim', b'heis', b'hevc', b'mif1', b'msf1')

_STREAMS = ('rtsp', 'rtsps', 'rtmp', 'rtmps', 'rtp', 'udp', 'tcp', 'srt', 'mms', 'mmsh', 'rist', 'ndi')
_CAMERA = re.compile(r'(/dev/video)?\d{1,2}')


def is_noise(name: str) -> bool:
    """Whether a name is hidden, or a system leaves such files in folders."""
    return name.startswith('.') or name.lower() in _NOISE


def is_image_name(name: Word) -> bool:
    """Whether a name has the extension of an image."""
    return str(name).lower().endswith(IMAGES)


def is_address(word: Word) -> bool:
    """Whether a word is a URL."""
    return '://' in str(word)


def is_video(word: Word) -> bool:
    """Whether a word names a video file: by the content of an existing file, else by its extension."""
    if is_address(word):
        return False
    path = osp.expanduser(str(word))
    if not osp.isfile(path):
        return path.lower().endswith((*VIDEOS, *_STREAMS_OR_PROGRAMS)) and not osp.isdir(path)
    start = _start_of(path)
    return _starts_as_video(start) or path.lower().endswith(VIDEOS) and not _starts_as_image(start)


def unsupported(path: str) -> str:
    """Why images of this kind are not supported; empty if they are."""
    ending = osp.splitext(path)[1].lower()
    return f'{ending} is not supported: convert it to JPEG or PNG' if ending in _NO_IMAGES else ''


def check_source(word: str) -> None:
    """Raise a UsageError for a stream, a camera, or an unsupported address."""
    scheme, address, _ = word.partition('://')
    path = urlsplit(word).path.lower() if address else ''
    camera = _CAMERA.fullmatch(word) and not osp.isfile(word) and not osp.isdir(word)
    if camera or address and scheme.lower() in _STREAMS or path.endswith(('.m3u8', '.mpd', '.sdp')):
        raise UsageError(f'{word}: streams and cameras are not supported: record a video file and use it',
                         'bad-argument')
    if not address:
        return
    if path.endswith((*VIDEOS, *_STREAMS_OR_PROGRAMS)):
        raise UsageError(f'{word}: a video must be a file: download it first', 'bad-argument')
    # As mmengine does: the scheme of `cluster:s3://...` is s3.
    if scheme.rpartition(':')[2] not in prefix_to_backends:
        raise UsageError(f'{word}: {scheme}:// is not supported: download the file first', 'bad-argument')


def _start_of(path) -> bytes:
    try:
        with open(path, 'rb') as file:
            return file.read(1024)
    except OSError:
        return b''


def _starts_as_video(start) -> bool:
    if start[4:8] == b'ftyp':
        return start[8:12] not in _PICTURE_BRANDS
    transport = any(len(start) > first + 2 * size and all(
        start[first + number * size] == 0x47 for number in range(3))
        for first, size in ((0, 188), (4, 192), (0, 204)))
    return transport or start[4:8] in (b'moov', b'mdat') or start[8:12] == b'AVI ' or start.startswith((
        b'\x1aE\xdf\xa3', b'FLV\x01', b'OggS', b'0&\xb2u\x8ef\xcf\x11', b'\x00\x00\x01\xba',
        b'\x00\x00\x01\xb3', b'\x06\x0e+4\x02\x05\x01\x01'))


def _starts_as_image(start) -> bool:
    return start[8:12] == b'WEBP' or start.startswith((
        b'\xff\xd8\xff', b'\x89PNG', b'GIF8', b'BM', b'II*\x00', b'MM\x00*'))
