"""Frames of damaged videos, and of videos whose headers are wrong or empty."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from deqdet.inference.containers import lacks_its_end
from deqdet.inference.frames import Frames
from detecting import picture
from refusals import refused
from small_model import ROOT

# Each had 12 frames of 64 x 48 pixels: piped; cut with `-ss 0.4 -c copy`, which leaves 8 visible frames; a
# broadcast format; rotated by 90 degrees.
VIDEOS = ROOT / 'tests' / 'data' / 'videos'


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """A video of 10 frames of 80 x 60 pixels, written by OpenCV."""
    path = tmp_path_factory.mktemp('written') / 'clip.avi'
    write(path, 10)
    return path.read_bytes()


def write(path, frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (80, 60))
    for number in range(frames):
        writer.write(np.roll(picture(0, (60, 80)), number, axis=1))
    writer.release()


def counting(content, count):
    """An AVI file with this number of frames in its headers."""
    content = bytearray(content)
    # In `avih` the 5th number after its size, in `strh` the 9th.
    for name, number in (b'avih', 4), (b'strh', 8):
        begin = content.index(name) + 8 + 4 * number
        content[begin:begin + 4] = count.to_bytes(4, 'little')
    return content


def damaged(content, first, last, count):
    """The same with zeros instead of the frames from ``first`` to before ``last``."""
    content = counting(content, count)
    begin = content.index(b'movi') + 4
    for number in range(last):
        size = int.from_bytes(content[begin + 4:begin + 8], 'little')
        if number >= first:
            content[begin + 8:begin + 8 + size] = bytes(size)
        begin = content.find(b'00dc', begin + 8 + size)
    return content


def shapes_and_reasons(path):
    read = list(Frames(path))
    return [frame.image.shape[:2] for frame in read if frame.image is not None], [
        frame.reason for frame in read if frame.image is None]


@pytest.mark.parametrize('name, count, frames, shape', [
    ('piped.mkv', None, 12, (48, 64)), ('cut.mp4', 12, 8, (48, 64)), ('clip.ts', 12, 12, (48, 64)),
    ('turned.mp4', 12, 12, (64, 48))])
def test_a_whole_video_is_read_to_its_end(name, count, frames, shape):
    video = Frames(VIDEOS / name)
    assert video.count == count and video.rate == 10
    assert shapes_and_reasons(VIDEOS / name) == ([shape] * frames, [])


@pytest.mark.parametrize('count, believed', [(0, None), (3, 3), (500, 500), (2 ** 32 - 1, None)])
def test_a_wrong_number_of_frames_in_the_header(written, tmp_path, count, believed):
    path = tmp_path / 'clip.avi'
    path.write_bytes(counting(written, count))
    video = Frames(path)
    assert believed is None or video.count == believed
    assert shapes_and_reasons(path) == ([(60, 80)] * 10, [])


@pytest.mark.parametrize('rate, scale', [(0, 1), (1, 0), (1_000_000, 1), (1, 1_000_000)])
def test_a_rate_that_cannot_be(written, tmp_path, rate, scale):
    path = tmp_path / 'clip.avi'
    content = bytearray(written)
    content[content.index(b'avih') + 8:][:4] = bytes(4)
    begin = content.index(b'strh') + 8 + 20
    content[begin:begin + 8] = scale.to_bytes(4, 'little') + rate.to_bytes(4, 'little')
    path.write_bytes(content)
    video = Frames(path)
    assert 0.01 <= video.rate <= 1000
    assert len(list(video)) == 10


class Header:
    """A capture whose header gives one number."""

    def __init__(self, number):
        self.number, self.left = number, 3

    def get(self, _):
        return self.number

    def read(self):
        self.left -= 1
        return self.left >= 0, np.zeros((4, 4, 3), np.uint8) if self.left >= 0 else None

    def release(self):
        pass


@pytest.mark.parametrize('number', [float('nan'), float('inf'), -9.2e16, -1.0, 0.0, 1e12])
def test_numbers_that_are_none(tmp_path, monkeypatch, number):
    (tmp_path / 'a.mp4').touch()
    monkeypatch.setattr(cv2, 'VideoCapture', lambda path: Header(number))
    video = Frames(tmp_path / 'a.mp4')
    assert video.count is None and video.rate == 10 and len(list(video)) == 3


@pytest.mark.parametrize('name', ['piped.mkv', 'cut.mp4', 'clip.ts', 'clip.avi'])
def test_a_truncated_video_is_reported(written, tmp_path, name):
    content = written if name == 'clip.avi' else (VIDEOS / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(content)
    assert not lacks_its_end(path)
    path.write_bytes(content[:len(content) * 7 // 10])
    assert lacks_its_end(path)
    if name == 'cut.mp4':  # its index is at the end
        with refused('bad-image', name, 'truncated'):
            Frames(path)
        return
    shapes, (reason, ) = shapes_and_reasons(path)
    assert 0 < len(shapes) < 12
    assert reason.startswith('the file is truncated: it ends after ') and reason.endswith('frames')


def test_a_video_that_only_lacks_its_index_has_all_frames(written, tmp_path):
    path = tmp_path / 'clip.avi'
    path.write_bytes(written[:written.index(b'idx1') + 20])
    assert lacks_its_end(path)
    assert shapes_and_reasons(path) == ([(60, 80)] * 10, [])


@pytest.mark.parametrize('first, last, header', [
    (4, 5, 10), (0, 3, 10), (6, 10, 10), (4, 5, 0), (6, 10, 0), (6, 10, 3)])
def test_frames_that_cannot_be_decoded_are_reported_and_the_others_are_read(
        written, tmp_path, first, last, header):
    path = tmp_path / 'clip.avi'
    path.write_bytes(damaged(written, first, last, header))
    read = list(Frames(path))
    assert [number for number, frame in enumerate(read) if frame.image is None] == list(range(first, last))
    assert read[first].reason == f'frame {first} (from 0) cannot be decoded' and len(read) == 10


@pytest.mark.parametrize('header', [400, 0])
def test_a_long_damaged_part_does_not_end_the_video(tmp_path, header):
    path = tmp_path / 'clip.avi'
    write(path, 400)
    path.write_bytes(damaged(path.read_bytes(), 100, 300, header))
    read = list(Frames(path))
    assert [frame.image is None for frame in read] == [100 <= number < 300 for number in range(400)]


def test_no_video_at_all(tmp_path):
    for content in b'', b'text', bytes(4096):
        path = Path(tmp_path / 'a.mp4')
        path.write_bytes(content)
        with refused('bad-image', path, 'OpenCV'):
            Frames(path)
