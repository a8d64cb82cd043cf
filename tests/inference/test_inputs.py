"""Files, folders, globs, and the names of their results."""

import os
import tempfile
from pathlib import Path

import pytest
from deqdet.inference.formats import is_video
from deqdet.inference.inputs import find, find_videos, in_words
from deqdet.inference.painting import picture_name
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names_of(*words, **options):
    return [each.name for each in find(words, **options).inputs]


def test_folders_are_searched_to_the_bottom(tmp_path):
    touch(tmp_path, 'b.JPG', 'a.png', 'notes.txt', '.hidden.png', 'z/c.webp', 'z/y/d.tif', '.cache/e.png')
    assert names_of(tmp_path) == ['a.png', 'b.JPG', 'z/c.webp', 'z/y/d.tif']
    assert names_of(tmp_path, leave_out=tmp_path / 'z') == ['a.png', 'b.JPG']


def test_files_globs_and_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, 'a.png', 'b.png', 'c/d.png', 'odd', '[1].png')
    assert names_of('b.png', 'odd') == ['b.png', 'odd']
    assert names_of('*.png') == ['[1].png', 'a.png', 'b.png']
    assert names_of('**/*.png') == ['[1].png', 'a.png', 'b.png', 'd.png']
    assert names_of('[1].png') == ['[1].png']  # an existing file takes precedence over the pattern
    source, = find(['https://example.org/x/y.jpg?size=1']).inputs
    assert source.path == 'https://example.org/x/y.jpg?size=1' and source.name == 'y.jpg'


def test_each_file_once_under_a_name_of_its_own(tmp_path):
    touch(tmp_path, 'a/x.png', 'b/x.png', 'b/y.png')
    assert names_of(tmp_path / 'a', tmp_path / 'b', tmp_path / 'a' / 'x.png') == ['x.png', 'b/x.png', 'y.png']
    (tmp_path / 'link.png').symlink_to(tmp_path / 'a' / 'x.png')
    assert names_of(tmp_path / 'a', tmp_path / 'link.png') == ['x.png']


def test_pictures_do_not_share_a_name_either(tmp_path):
    touch(tmp_path, 'a/x.tif', 'b/x.tif.png')
    names = names_of(tmp_path / 'a', tmp_path / 'b')
    assert [picture_name(name) for name in names] == ['x.tif.png', 'b/x.tif.png']


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.sampled_from(['a', 'b', 'c..']), min_size=1, max_size=4), max_size=12),
       st.sets(st.integers(0, 11)))
def test_no_two_results_have_one_name_and_none_leaves_its_folder(paths, roots):
    with tempfile.TemporaryDirectory() as folder:
        files = {Path(folder, *parts[:-1], f'{parts[-1]}.{ending}') for parts in paths
                 for ending in ('png', 'tif', 'tif.png')}
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        words = sorted(files)
        words = [words[i].parent if i in roots else words[i] for i in range(len(words))]
        sources = find(words).inputs
        assert {source.path for source in sources} >= {str(word) for word in words if word.is_file()}
        pictures = [picture_name(source.name) for source in sources]
        assert len(set(pictures)) == len(pictures) == len({source.path for source in sources})
        for name in pictures:
            assert os.path.normpath(name) == name and not name.startswith(('/', '../'))


@pytest.mark.parametrize('word', ['gone.png', '*.gif', '.'])
def test_what_names_nothing(tmp_path, monkeypatch, word):
    monkeypatch.chdir(tmp_path)
    with refused('missing-file', word):
        find([word])


def test_videos_by_their_endings(tmp_path):
    (tmp_path / 'frames.mp4').mkdir()
    assert is_video('a.MP4') and is_video('b/c.mkv')
    assert not is_video('a.png') and not is_video('https://a/b.mp4') and not is_video(tmp_path / 'frames.mp4')


def test_links_are_followed_once_and_circles_end(tmp_path):
    touch(tmp_path, 'top/a.png', 'top/z/b.png', 'real/c.png', 'real/d/e.png', 'single.png')
    top = tmp_path / 'top'
    for name, target in [('sub', tmp_path / 'real'), ('again', tmp_path / 'real'), ('circle', top),
                         ('b', top / 'z'), ('f.png', tmp_path / 'single.png'), ('lost', tmp_path / 'x'),
                         ('gone.png', tmp_path / 'x.png'), ('gone.txt', tmp_path / 'x.txt')]:
        (top / name).symlink_to(target)
    (tmp_path / 'real' / 'up').symlink_to(tmp_path)
    found = find([top])
    # `z` keeps its own name. A folder behind two links gets the name of the first one.
    assert [source.name for source in found.inputs] == [
        'a.png', 'f.png', 'gone.png', 'lost', 'again/c.png', 'again/d/e.png', 'z/b.png']
    assert found.skipped == {'.txt': 1}


def test_what_opencv_or_pillow_reads_is_taken_from_a_folder_and_the_rest_is_counted(tmp_path):
    images = ['a.jfif', 'b.JPE', 'c.jp2', 'd.avif', 'e.heic', 'f.tga', 'g.psd', 'h.pnm', 'i.ico', 'j.MPO']
    touch(tmp_path, *images, 'n.txt', 'o.TXT', 'p.mp4', 'q.ts', 'README', '.DS_Store', 'Thumbs.db',
          '__MACOSX/._a.jpg', '__MACOSX/a.jpg', 'sub/r.svg')
    found = find([tmp_path])
    assert [source.name for source in found.inputs] == images
    assert in_words(found.skipped) == '2 .txt, 1 .mp4, 1 .svg, 1 .ts, 1 without extension'


@pytest.mark.parametrize('word, fix', [
    ('rtsp://camera.local:554/live', 'record'), ('RTMP://host/app', 'record'), ('udp://@:1234', 'record'),
    ('https://host/live/index.m3u8?token=1', 'record'), ('/dev/video0', 'record'), ('0', 'record'),
    ('https://host/clip.mp4', 'download'), ('gopher://host/a.png', 'download'),
])
def test_streams_and_cameras_are_named(tmp_path, monkeypatch, word, fix):
    monkeypatch.chdir(tmp_path)
    with refused('bad-argument', word, fix):
        find([word])


def test_a_file_may_have_a_number_as_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, '0')
    assert names_of('0') == ['0']


def test_videos_by_their_content(tmp_path):
    transport = (b'\x47' + bytes(187)) * 3
    for name, content, expected in [
            ('a.ts', transport, True), ('b.ts', b'export const a = 1;\n' * 60, False),
            ('c.mts', bytes(4) + (b'\x47' + bytes(191)) * 3, True), ('d', b'\0\0\0\x20ftypisom', True),
            ('e', b'\0\0\0\x20ftypavif', False), ('f.bin', b'\x1aE\xdf\xa3', True),
            ('g.jpg', b'RIFF\0\0\0\0AVI LIST', True), ('h.mp4', b'\xff\xd8\xff\xe0', False),
            ('i.mp4', b'', True), ('j.png', b'RIFF\0\0\0\0WEBPVP8 ', False)]:
        (tmp_path / name).write_bytes(content)
        assert is_video(tmp_path / name) == expected, name
    assert is_video('gone.ts') and not is_video('rtsp://host/a.ts')


def test_videos_are_found_once_under_names_of_their_own(tmp_path):
    touch(tmp_path, 'a/clip/1.png', 'b/clip/1.png', 'a/c.mp4', 'b/c.mp4')
    words = [str(tmp_path / name) for name in ('a/clip', 'b/clip', 'a/clip', 'a/c.mp4', 'b/*.mp4')]
    found = find_videos(words, folders=True).inputs
    assert [each.name for each in found] == ['clip', 'b/clip', 'c.mp4', 'b/c.mp4']
    assert [each.path for each in found] == [word.replace('*', 'c') for word in words[:2] + words[3:]]
