"""tools/detect.py: images, videos, results, broken files, and interrupted runs."""

import csv
import json
import os
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest
from deqdet.commands.detect import SOME_BROKEN
from deqdet.inference import run
from deqdet.inference.journal import NAME
from detecting import picture, with_masks_as_with_boxes, write_detector, write_pictures
from PIL import Image
from refusals import says
from small_model import ROOT

# Kills itself like `kill -9`, with half of the fourth batch written.
KILLED = f'''
import os, signal, sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'projects')!r}]
from deqdet.launching.command_line import run
from deqdet.commands import detect
from deqdet.inference import journal

append = journal.Journal.append

def killed(self, **batch):
    killed.batches += 1
    if killed.batches == 4:
        self._file.write(b'{{"records": [{{"input": "')
        self._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    append(self, **batch)

killed.batches = 0
journal.Journal.append = killed
run(detect.main)
'''


@pytest.fixture(scope='module')
def files(request, tmp_path_factory):
    """Config and checkpoint."""
    return write_detector(tmp_path_factory.mktemp('detector'), getattr(request, 'param', ''))


@pytest.fixture
def detect(call, files, capsys):
    """Detect; returns status, stdout and stderr."""

    def detect(*words):
        status = 0
        try:
            call('detect.py', *files, *words)
        except SystemExit as exit:
            status = exit.code
        printed = capsys.readouterr()
        return status, printed.out.strip().splitlines()[-1:], printed.err

    return detect


def load(path):
    with open(path) as file:
        return json.load(file)


def test_one_command_gives_a_picture_with_boxes(detect, tmp_path):
    write_pictures(tmp_path / 'in', 1)
    status, line, _ = detect('in/000.png', '--score', 0)
    assert status == 0 and line == ['1 images, 12 detections above 0; written: detections/detections.json, '
                                    'detections/vis/']
    drawn = cv2.imread('detections/vis/000.png')
    assert drawn.shape == (60, 80, 3) and (drawn != cv2.imread('in/000.png')).any()
    assert len(load('detections/detections.json')['annotations']) == 12


def test_two_hundred_images_of_which_ten_are_broken(detect, tmp_path):
    write_pictures(tmp_path / 'in', 200)
    for number in range(10):
        path = tmp_path / 'in' / f'{20 * number:03}.png'
        content = path.read_bytes()
        path.write_bytes([b'', content[:len(content) // 2], b'no image'][number % 3])
    status, line, error = detect('in', '--no-pictures', '--steps', 0, '--batch-size', 16, '--csv', 'all.csv',
                                 '--score', 0)
    assert status == SOME_BROKEN
    assert line[0].startswith('190 images, 2280 detections')
    results = load('detections/detections.json')
    assert len(results['images']) == 190 and len(results['annotations']) == 190 * 12
    reported = error[error.index('10 could not be read:'):].splitlines()[1:]
    assert len(reported) == len(results['info']['broken']) == 10
    assert reported[0].endswith('in/000.png: empty file') and 'truncated' in reported[1]
    assert '200 of 200 images' in error  # progress without a terminal
    with open('all.csv', newline='') as file:
        assert len({row['file'] for row in csv.DictReader(file)}) == 190
    # The second run has nothing to do and gives the same answer.
    again = detect('in', '--no-pictures', '--steps', 0, '--batch-size', 16, '--score', 0)
    assert again[0] == SOME_BROKEN and load('detections/detections.json') == results


def test_images_of_ten_bits(detect, tmp_path):
    """Without the setting they are black, with one warning; with it, they are as bright as 8-bit images."""
    write_pictures(tmp_path / 'in', 2)
    (tmp_path / 'deep').mkdir()
    for number in range(2):
        values = cv2.imread(f'in/{number:03}.png') * (1023 / 255)
        cv2.imwrite(f'deep/{number:03}.png', np.rint(values).astype(np.uint16))
    detect('in', '--no-pictures')
    expected = load('detections/detections.json')['annotations']
    *_, printed = detect('deep', '--no-pictures', '--out', 'black')
    warning, = (line for line in printed.splitlines() if line.startswith('warning: '))
    assert f'images in {tmp_path}/deep ' in warning and 'lowest 10 of 16 bits' in warning
    assert 'set value_range=(0, 1023) of LoadImageFromFile in the test pipeline' in warning
    status, _, printed = detect('deep', '--out', 'scaled', '--score', 1, '--cfg-options',
                         'test_dataloader.dataset.pipeline.0.value_range=0,1023')
    assert status == 0 and 'warning: ' not in printed, printed
    assert load('scaled/detections.json')['annotations'] == expected
    assert (cv2.imread('scaled/vis/001.png') == cv2.imread('in/001.png')).all()


@with_masks_as_with_boxes
def test_detections_are_those_of_the_test_tool(detect, call, files, tmp_path):
    folder = write_pictures(tmp_path / 'in', 5)
    data = dict(categories=[dict(id=number + 7, name=str(number)) for number in range(10)],
                images=[dict(id=number + 40, file_name=f'./{number:03}.png', width=80, height=60 + number % 3)
                        for number in range(5)],
                annotations=[dict(id=1, image_id=40, category_id=9, bbox=[5, 5, 9, 9], area=81, iscrowd=0)])
    (tmp_path / 'val.json').write_text(json.dumps(data))
    call('test.py', *files, '--out', 'tested.pkl', '--cfg-options',
         f'test_dataloader.dataset.data_root={tmp_path}/', 'test_dataloader.dataset.ann_file=val.json',
         'test_dataloader.dataset.data_prefix.img=in/', f'test_evaluator.ann_file={tmp_path}/val.json',
         'test_dataloader.batch_size=2')
    _, line, _ = detect(folder, '--batch-size', 2, '--no-pictures', '--annotations', 'val.json')
    found = load('detections/detections.json')
    masks = load('detections/detections.segm.json') if 'detections.segm.json' in line[0] else []
    with open('tested.pkl', 'rb') as file:
        tested = pickle.load(file)
    assert len(found) == 5 * 12
    for sample in tested:
        mine = [each for each in found if each['image_id'] == sample['img_id']]
        corners = [[x, y, x + width, y + height] for x, y, width, height in (each['bbox'] for each in mine)]
        assert [each['score'] for each in mine] == sample['pred_instances']['scores'].tolist()
        assert [each['category_id'] - 7 for each in mine] == sample['pred_instances']['labels'].tolist()
        np.testing.assert_allclose(corners, sample['pred_instances']['bboxes'].numpy(), rtol=0, atol=1e-4)
        assert [dict(each['segmentation'], counts=each['segmentation']['counts'].encode()) for each in masks
                if each['image_id'] == sample['img_id']] == sample['pred_instances'].get('masks', [])


@pytest.mark.slow
@with_masks_as_with_boxes
def test_a_killed_run_goes_on_to_the_same_results(detect, files, tmp_path):
    write_pictures(tmp_path / 'in', 10)
    (tmp_path / 'in' / '004.png').write_bytes(b'')
    words = ['in', '--batch-size', '2', '--score', '0', '--csv']
    assert detect(*words, 'whole.csv', '--out', 'whole')[0] == SOME_BROKEN
    command = [sys.executable, '-c', KILLED, *map(str, files), *words, 'killed.csv', '--out', 'killed']
    killed = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    journal = (tmp_path / 'killed' / NAME).read_bytes()
    assert journal.count(b'\n') == 4 and not journal.endswith(b'\n')
    assert not (tmp_path / 'killed' / 'detections.json').exists()
    assert detect(*words, 'killed.csv', '--out', 'killed')[0] == SOME_BROKEN
    assert (tmp_path / 'killed' / NAME).read_bytes() == (tmp_path / 'whole' / NAME).read_bytes()
    assert load('killed/detections.json') == load('whole/detections.json')
    assert (tmp_path / 'killed.csv').read_text() == (tmp_path / 'whole.csv').read_text()
    pictures = sorted(path.name for path in (tmp_path / 'killed' / 'vis').iterdir())
    assert len(pictures) == 9
    for name in pictures:
        assert (cv2.imread(f'killed/vis/{name}') == cv2.imread(f'whole/vis/{name}')).all()


def test_files_that_came_or_changed_are_detected_in_and_others_not_again(detect, tmp_path, monkeypatch):
    from deqdet.inference.inferencer import DEQDetInferencer
    read, batches = [], DEQDetInferencer.batches
    monkeypatch.setattr(DEQDetInferencer, 'batches', lambda self, inputs, *args, **kwargs: (
        read.append([path[-7:-4] for path in inputs]), batches(self, inputs, *args, **kwargs))[1])
    folder = write_pictures(tmp_path / 'in', 2)
    (folder / '002.png').write_bytes(b'')
    assert detect(folder, '--no-pictures')[0] == SOME_BROKEN
    before = load('detections/detections.json')['annotations']
    write_pictures(folder, 2, first=2)  # replaces the broken one
    cv2.imwrite(str(folder / '001.png'), picture(9, (90, 60)))
    assert detect(folder)[0] == 0
    assert sum(read, []) == ['000', '001', '002', '001', '002', '003']
    after = load('detections/detections.json')
    assert len(after['images']) == 4 and len(after['annotations']) == 4 * 12
    assert after['annotations'][:12] == before[:12] and after['annotations'][12:24] != before[12:24]
    assert len(list((tmp_path / 'detections' / 'vis').iterdir())) == 4  # including the first


def test_equal_names_and_results_among_the_inputs(detect, tmp_path):
    for name in 'ab':
        write_pictures(tmp_path / 'in' / name, 1)
    for _ in range(2):  # the second run finds the pictures of the first below the folder
        assert detect('in/a', 'in/b', 'in', '--out', 'in')[0] == 0
        assert sorted(str(path.relative_to(tmp_path / 'in' / 'vis'))
                      for path in (tmp_path / 'in' / 'vis').rglob('*.png')) == ['000.png', 'b/000.png']
        assert len(load('in/detections.json')['images']) == 2


def test_pictures_of_earlier_runs_are_no_inputs(detect, tmp_path):
    write_pictures(tmp_path / 'in', 1)
    write_pictures(tmp_path / 'vis', 1)  # without a journal it is a normal folder
    for out in 'one', 'deep/two', 'three':
        status, line, _ = detect('.', '--out', out)
        assert status == 0 and line[0].startswith('2 images')
    for word, count in [('**/*.png', 2), ('*/vis/**/*.png', 0), ('deep/two/vis/**/*.png', 2),
                        ('deep/**/*.png', 0), ('three/vis', 2)]:
        status, line, error = detect(word, '--no-pictures', '--out', 'four', '--restart')
        if count:
            assert status == 0 and line[0].startswith(f'{count} images'), word
        else:
            assert status == 2 and word in error and '[missing-file]' in error


def write_video(path, frames, ending='MJPG'):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*ending), 10, (80, 60))
    for number in range(frames):
        writer.write(np.roll(picture(0, (60, 80)), number, axis=1))
    writer.release()


def test_a_video(detect, tmp_path):
    write_video(tmp_path / 'clip.avi', 3)
    status, line, _ = detect('clip.avi', '--tol', 'position=1e9', '--csv', 'clip.csv')
    assert status == 0 and '3 frames' in line[0] and '2.00 refinements a frame' in line[0]
    video = cv2.VideoCapture('detections/vis/clip.avi.mp4')
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    # The corner has the number of refinements: white, where the frame is not.
    corner = video.read()[1][44:58, 2:16]
    assert corner.min(-1).max() > 200 > picture(0, (60, 80))[44:58, 2:16].min(-1).max()
    images = load('detections/detections.json')['images']
    assert [(image['frame'], image['refinements']) for image in images] == [(0, 2), (1, 2), (2, 2)]
    with open('clip.csv', newline='') as file:
        assert {row['refinements'] for row in csv.DictReader(file)} == {'2'}


@with_masks_as_with_boxes
def test_an_interrupted_video_goes_on_to_the_same_results(detect, tmp_path, monkeypatch):
    monkeypatch.setattr(run, '_FRAMES_A_LINE', 2)
    write_pictures(tmp_path / 'clip', 5)
    for path in (tmp_path / 'clip').iterdir():  # all frames must have one size
        cv2.imwrite(str(path), picture(int(path.stem), (60, 80)))
    words = 'clip', '--frames', '--steps', 2, '--tol', 0
    assert detect(*words, '--out', 'whole')[0] == 0
    lines = (tmp_path / 'whole' / NAME).read_bytes().splitlines(keepends=True)
    assert len(lines) == 5
    (tmp_path / 'part').mkdir()
    (tmp_path / 'part' / NAME).write_bytes(b''.join(lines[:2]) + lines[2][:99])
    assert detect(*words, '--out', 'part')[0] == 0
    assert (tmp_path / 'part' / NAME).read_bytes() == b''.join(lines)
    assert load('part/detections.json') == load('whole/detections.json')
    assert (tmp_path / 'part/vis/clip.mp4').read_bytes() == (tmp_path / 'whole/vis/clip.mp4').read_bytes()
    # Each frame starts at the last one; cold, the second frame gives another result.
    assert detect(*words, '--out', 'cold', '--cold', '--no-pictures')[0] == 0
    warm, cold = (load(f'{out}/detections.json')['annotations'] for out in ('whole', 'cold'))
    assert warm[:12] == cold[:12] and warm[12:24] != cold[12:24]


def test_a_video_that_changed_is_detected_in_again(detect, tmp_path, monkeypatch):
    monkeypatch.setattr(run, '_FRAMES_A_LINE', 2)
    (tmp_path / 'clip').mkdir()
    for number in range(3):
        cv2.imwrite(f'clip/{number}.png', picture(number, (60, 80)))
    words = 'clip', '--frames', '--steps', 1
    assert detect(*words)[0] == 0
    before = load('detections/detections.json')
    cv2.imwrite('clip/0.png', picture(7, (60, 80)))
    for out in 'detections', 'new':
        assert detect(*words, '--out', out)[0] == 0
    assert load('detections/detections.json') == load('new/detections.json') != before
    assert (tmp_path / 'detections/vis/clip.mp4').read_bytes() == (tmp_path / 'new/vis/clip.mp4').read_bytes()


def test_a_video_that_changes_during_a_run_is_detected_in_again(detect, tmp_path, monkeypatch):
    monkeypatch.setattr(run, '_FRAMES_A_LINE', 2)
    (tmp_path / 'clip').mkdir()
    for number in range(3):
        cv2.imwrite(f'clip/{number}.png', picture(number, (60, 80)))
    words = 'clip', '--frames', '--steps', 1, '--no-pictures'
    assert detect(*words)[0] == 0
    journal = tmp_path / 'detections' / NAME
    journal.write_bytes(b''.join(journal.read_bytes().splitlines(keepends=True)[:2]))

    class Growing(run.Frames):
        def __init__(self, path):
            cv2.imwrite('clip/3.png', picture(3, (60, 80)))
            super().__init__(path)

    with monkeypatch.context() as patch:
        patch.setattr(run, 'Frames', Growing)
        assert detect(*words)[0] == 0
    for out in 'detections', 'new':
        assert detect(*words, '--out', out)[0] == 0
    assert load('detections/detections.json') == load('new/detections.json')
    assert len(load('new/detections.json')['images']) == 4


def test_a_video_of_unknown_length_goes_on_and_a_truncated_one_is_reported(detect, tmp_path, monkeypatch):
    monkeypatch.setattr(run, '_FRAMES_A_LINE', 4)
    whole = (ROOT / 'tests/data/videos/piped.mkv').read_bytes()
    (tmp_path / 'piped.mkv').write_bytes(whole)
    (tmp_path / 'cut').write_bytes(whole[:-40])  # no extension: recognised by its content
    for name, frames, status, known in ('piped.mkv', 12, 0, 2), ('cut', 11, SOME_BROKEN, 5):
        words = name, '--steps', 1, '--tol', 0
        found = detect(*words, '--out', f'{name}-whole')
        assert found[0] == status and found[1][0].startswith(f'{frames} frames')
        assert f'{12} frames, ' in found[2]
        lines = (tmp_path / f'{name}-whole' / NAME).read_bytes().splitlines(keepends=True)
        part = tmp_path / f'{name}-part'
        part.mkdir()
        (part / NAME).write_bytes(b''.join(lines[:known]))
        found = detect(*words, '--out', part)
        assert found[0] == status and (part / NAME).read_bytes().startswith(b''.join(lines))
        assert load(part / 'detections.json') == load(f'{name}-whole/detections.json')
        if status:
            assert f'{tmp_path}/cut: the file is truncated: it ends after 11 frames' in found[2]


def test_broken_frames_are_left_out(detect, tmp_path, monkeypatch):
    monkeypatch.setattr(run, '_FRAMES_A_LINE', 2)
    folder = write_pictures(tmp_path / 'clip', 7)
    for path in folder.iterdir():
        cv2.imwrite(str(path), picture(int(path.stem), (60, 80)))
    (folder / '000.png').write_bytes(b'')
    (folder / '002.png').write_bytes((folder / '002.png').read_bytes()[:900])
    cv2.imwrite(str(folder / '003.png'), picture(3, (40, 80)))
    (folder / '006.png').unlink()
    os.mkfifo(folder / '006.png')
    words = 'clip', '--frames', '--steps', 2, '--tol', 0
    status, line, error = detect(*words, '--out', 'whole')
    assert status == SOME_BROKEN and line[0].startswith('3 frames')
    reported = [each.split('/')[-1] for each in error[error.index('4 could not be read'):].splitlines()[1:]]
    assert reported[0] == '000.png: empty file' and reported[1].startswith('002.png: ')
    assert reported[2] == '003.png: 80 x 40 pixels, but the frames before it have 80 x 60'
    assert reported[3] == '006.png: not a regular file'
    results = load('whole/detections.json')
    assert [image['frame'] for image in results['images']] == [1, 4, 5]
    assert cv2.VideoCapture('whole/vis/clip.mp4').get(cv2.CAP_PROP_FRAME_COUNT) == 3
    # Interrupted after the broken frames 2 and 3, it continues from the equilibrium of frame 1.
    lines = (tmp_path / 'whole' / NAME).read_bytes().splitlines(keepends=True)
    (tmp_path / 'part').mkdir()
    (tmp_path / 'part' / NAME).write_bytes(b''.join(lines[:3]))
    for _ in range(2):
        assert detect(*words, '--out', 'part')[0] == SOME_BROKEN
        assert (tmp_path / 'part' / NAME).read_bytes() == b''.join(lines)
        assert load('part/detections.json') == results
        assert (tmp_path / 'part/vis/clip.mp4').read_bytes() == (tmp_path / 'whole/vis/clip.mp4').read_bytes()


def test_what_is_no_image_is_counted_and_streams_are_named(detect, refused, files, tmp_path):
    write_pictures(tmp_path / 'in' / 'sub', 1)
    for name in 'a.txt', 'b.txt', 'c.mp4', 'Thumbs.db':
        (tmp_path / 'in' / name).touch()
    for out in 'detections', 'in':  # earlier results are not counted
        for _ in range(2):
            status, line, _ = detect('in', '--out', out)
            assert status == 0 and line[0].startswith('1 images')
            assert line[0].endswith('2 .txt, 1 .mp4')
    for words in ['rtsp://camera/live'], ['rtsp://camera/live', 'in/c.mp4'], ['in/c.mp4', 'rtmp://a']:
        line = refused('detect.py', *files, *words)
        assert 'streams and cameras are not supported' in line and '[bad-argument]' in line


def test_a_pipe_is_no_image(detect, tmp_path):
    write_pictures(tmp_path / 'in', 1)
    os.mkfifo(tmp_path / 'in' / 'pipe.png')
    for word in 'in', 'in/*.png', 'in/pipe.png':
        status, _, error = detect(word, '--no-pictures', '--restart')
        assert status == SOME_BROKEN and 'in/pipe.png: not a regular file' in error


def test_batches_are_not_mostly_padding(detect, tmp_path):
    (tmp_path / 'in').mkdir()
    shapes = [(60, 80), (80, 60), (1, 400), (400, 1), (1, 400), (1, 400), None, (400, 1), *[(60, 80)] * 6]
    for number, shape in enumerate(shapes):
        path = tmp_path / 'in' / f'{number:02}.png'
        path.touch() if shape is None else cv2.imwrite(str(path), picture(0, shape))
    words = 'in', '--no-pictures', '--batch-size', 4, '--score', 0
    status, line, _ = detect(*words, '--out', 'whole')
    assert status == SOME_BROKEN and line[0].startswith('13 images')
    lines = (tmp_path / 'whole' / NAME).read_bytes().splitlines(keepends=True)
    batches = [json.loads(text)['records'] for text in lines[1:]]
    assert [[record.get('height') for record in batch] for batch in batches] == [
        [60, 80, 1, 400], [1, 1, None], [400], [60, 60, 60, 60], [60, 60]]
    for done in range(1, len(lines)):
        (tmp_path / f'{done}').mkdir()
        (tmp_path / f'{done}' / NAME).write_bytes(b''.join(lines[:done]))
        detect(*words, '--out', done)
        assert (tmp_path / f'{done}' / NAME).read_bytes() == b''.join(lines)


def test_a_gif_is_its_first_picture(detect, tmp_path):
    (tmp_path / 'in').mkdir()
    frames = [Image.fromarray(picture(seed)) for seed in range(2)]
    frames[0].save('in/a.gif', save_all=True, append_images=frames[1:])
    frames[0].save('in/b.GIF')
    frames[0].save('in/c.gif')
    path = tmp_path / 'in' / 'c.gif'
    path.write_bytes(path.read_bytes()[:400])
    status, line, error = detect('in', '--score', 0)
    assert status == SOME_BROKEN and line[0].startswith('2 images') and 'c.gif' in error
    assert (tmp_path / 'detections/vis/a.gif.png').exists()
    first, second = np.split(np.array([
        each['score'] for each in load('detections/detections.json')['annotations']]), 2)
    assert (first == second).all()
    assert detect('in/a.gif', '--out', 'one')[0] == 0


def test_names_that_are_no_text(detect, tmp_path):
    shot, frame = write_pictures(tmp_path / 'in', 2).iterdir()
    shot.rename(os.fsdecode(b'in/lat\xe9.png'))
    frame.rename('in/two\nlines.png')
    os.mkdir(b'clip\xe9')
    for folder, name in ('in', b'no\xe9.png'), ('in', b'no\n.png'), (os.fsdecode(b'clip\xe9'), b'1\xe9.png'):
        (tmp_path / folder / os.fsdecode(name)).touch()
    cv2.imwrite('good.png', picture())
    os.rename('good.png', b'clip\xe9/2\n\xe9.png')
    for words, names in [(['in'], ['lat\\xe9.png', 'two\\nlines.png']),
                         ([os.fsdecode(b'clip\xe9'), '--frames'], ['clip\\xe9'])]:
        status, line, error = detect(*words, '--csv', 'all.csv', '--score', 0, '--out', f'out{len(names)}')
        assert status == SOME_BROKEN and line[0].startswith(f'{len(names)} ')
        rows = (tmp_path / 'all.csv').read_text().splitlines()[1:]
        assert {row.split(',')[0] for row in rows} == {*names}
        results = load(f'out{len(names)}/detections.json')
        assert [image['file_name'].split('#')[0] for image in results['images']] == names
        broken = [each['path'] for each in results['info']['broken']]
        assert len(broken) == (2 if len(names) == 2 else 1) and '\\xe9.png' in ''.join(broken)
        assert all(f'  {each}: empty file' in error.splitlines() for each in broken)
        assert json.dumps(results, ensure_ascii=False).encode()  # no lone surrogates


def test_another_setting_is_not_mixed_in(detect, refused, files, tmp_path):
    write_pictures(tmp_path / 'in', 1)
    assert detect('in')[0] == 0
    before = load('detections/detections.json')
    for words, change in [(['--steps', 1], '(steps None, now 1)'),
                          (['--cfg-options', 'model.test_cfg.rcnn.max_per_img=3'], '(config ')]:
        line = refused('detect.py', *files, 'in', *words)
        assert change in line and '--restart' in line and '[bad-journal]' in line
    assert load('detections/detections.json') == before
    assert detect('in', '--steps', 1, '--restart')[0] == 0
    assert load('detections/detections.json')['annotations'] != before['annotations']


def test_pictures_are_drawn_again_for_another_score(detect, tmp_path, monkeypatch):
    from deqdet.inference.inferencer import DEQDetInferencer
    write_pictures(tmp_path / 'in', 2)
    write_video(tmp_path / 'clip.avi', 2)
    assert detect('in', '--score', 1)[0] == 0 and detect('clip.avi', '--score', 1, '--out', 'clip')[0] == 0
    plain = cv2.imread('detections/vis/001.png'), (tmp_path / 'clip/vis/clip.avi.mp4').read_bytes()
    assert (plain[0] == cv2.imread('in/001.png')).all()
    monkeypatch.setattr(DEQDetInferencer, 'forward', None)  # nothing may be detected again
    for _ in range(2):
        assert detect('in', '--score', 0)[0] == 0
        assert detect('clip.avi', '--score', 0, '--out', 'clip')[0] == 0
        assert (cv2.imread('detections/vis/001.png') != plain[0]).any()
        assert (tmp_path / 'clip/vis/clip.avi.mp4').read_bytes() != plain[1]
        # The second time nothing may be drawn either.
        monkeypatch.setattr(DEQDetInferencer, 'paint', None)


@pytest.mark.parametrize('files', ['local'], indirect=True)
def test_masks_in_other_forms_need_no_detection(detect, tmp_path, monkeypatch):
    from deqdet.inference.inferencer import DEQDetInferencer
    write_pictures(tmp_path / 'in', 2)
    write_video(tmp_path / 'clip.avi', 2)
    words = 'in', '--score', 0, '--masks'
    video = 'clip.avi', '--score', 0, '--out', 'clip', '--steps', 1, '--no-pictures', '--masks'

    def results():
        return load('detections/detections.json')['annotations'], cv2.imread('detections/vis/001.png')

    assert detect(*words, 'rle')[0] == detect(*video, 'rle')[0] == 0
    with_masks, picture = results()
    monkeypatch.setattr(DEQDetInferencer, 'forward', None)  # nothing may be detected again
    assert detect(*words, 'none')[0] == detect(*video, 'polygons')[0] == 0
    boxes, plain = results()
    assert not any('segmentation' in each for each in boxes) and (picture != plain).any()
    assert detect(*words, 'polygons')[0] == 0
    polygons, again = results()
    assert (again == picture).all()
    monkeypatch.setattr(DEQDetInferencer, 'paint', None)  # nothing may be drawn again
    assert detect(*words, 'rle')[0] == 0 and results()[0] == with_masks
    polygons += load('clip/detections.json')['annotations']
    assert len(polygons) == 4 * 12 and sum(each['area'] for each in polygons) > 0
    for rle, polygon in zip(with_masks, polygons):
        assert type(rle['segmentation']) is dict and rle['area'] == polygon['area']
        assert (type(polygon['segmentation']) is list) == (rle['area'] > 0)


@pytest.mark.parametrize('files', ['local'], indirect=True)
@pytest.mark.parametrize('words, message', [
    (['--masks', 'polygons'], '--masks polygons ... --annotations ... [bad-argument]'),
    (['--json', 'val.json'], '--json val.segm.json ... [output-exists]'),
    (['--json', 'a', '--csv', 'a.segm'], 'same file, a.segm ... [bad-argument]'),
], ids=str)
def test_one_line_says_what_is_wrong_with_masks(refused, files, tmp_path, words, message):
    write_pictures(tmp_path / 'in', 1)
    data = json.dumps(dict(images=[dict(id=1, file_name='000.png')],
                           categories=[dict(id=number, name=str(number)) for number in range(10)]))
    (tmp_path / 'val.segm.json').write_text(data)
    assert says(refused('detect.py', *files, 'in', '--annotations', 'val.segm.json', *words), message)


def test_ctrl_c(detect, tmp_path, monkeypatch):
    from deqdet.inference.inferencer import DEQDetInferencer

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    write_pictures(tmp_path / 'in', 1)
    monkeypatch.setattr(DEQDetInferencer, 'batches', interrupted)
    status, _, error = detect('in')
    assert status == 130 and 'same command' in error
    monkeypatch.undo()


@pytest.mark.parametrize('words, message', [
    (['gone.png'], 'gone.png does not exist'),
    (['in', '--steps', -1], '--steps -1: '),
    (['in', '--tol', 'size=1'], "--tol ... 'size' ... [unknown-setting]"),
    (['in', '--tol', 'small'], '--tol small ... content=NUMBER ... [bad-argument]'),
    (['in', '--solver', 'newton'], "'newton' ... [unknown-type]"),
    (['in', '--score', 30], '--score 30 ... [bad-argument]'),
    (['in', '--batch-size', 0], '--batch-size 0 ... [bad-argument]'),
    (['in', '--json', 'in'], '--json in ... folder ... [bad-argument]'),
    (['in', '--json', 'in/000.png/a.json'], 'in/000.png ... [output-failed]'),
    (['in', '--json', 'in/000.png'], '--json in/000.png ... [output-exists]'),
    (['in', '--csv', 'a', '--json', 'a'], '--json and --csv ... [bad-argument]'),
    (['in', 'clip.avi'], 'in is not a video: '),
    (['in/000.png', '--frames'], 'in/000.png is not a video or a folder of frames'),
    (['empty', '--frames'], 'empty has no images'),
    (['in', '--annotations', 'in/000.png'], '--annotations in/000.png: not an annotation file'),
    (['in', '--annotations', 'other.json'], '000.png ... --annotations other.json ... [images-mismatch]'),
    (['in', '--out', 'in/000.png'], 'in/000.png ... --out ... [output-failed]'),
    (['detections/vis/000.png', '--restart'], '[output-exists]'),
    (['in', '--device', 'gpu'], '[no-device]'),
    (['in', '--masks', 'rle'], '--masks rle: ... no mask_head ... [unsupported-decoder]'),
], ids=str)
def test_one_line_says_what_is_wrong(refused, files, tmp_path, words, message):
    write_pictures(tmp_path / 'in', 1)
    write_pictures(tmp_path / 'detections' / 'vis', 1)
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'clip.avi').touch()
    (tmp_path / 'other.json').write_text(json.dumps(dict(
        images=[], categories=[dict(id=number, name=str(number)) for number in range(10)])))
    assert says(refused('detect.py', *files, *words), message)


def test_decoders_without_an_equilibrium_to_share(refused, call, tmp_path, capsys):
    import torch
    from mmdet.registry import MODELS
    from mmengine.config import Config
    write_video(tmp_path / 'clip.avi', 2)
    config = ROOT / 'configs/deqdet/ffndet_digits.py'
    torch.save(dict(state_dict=MODELS.build(Config.fromfile(str(config)).model).state_dict()), 'stacked.pth')
    line = refused('detect.py', 'ffndet_digits', 'stacked.pth', 'clip.avi')
    assert 'FFNDetRoIHead' in line and '--cold' in line and '[unsupported-decoder]' in line
    line = refused('detect.py', 'ffndet_digits', 'stacked.pth', 'clip.avi', '--steps', 2)
    assert 'steps: ' in line and '[unsupported-decoder]' in line
    call('detect.py', 'ffndet_digits', 'stacked.pth', 'clip.avi', '--cold')
    assert capsys.readouterr().out.splitlines()[-1].startswith('2 frames, ')
