"""Shards and workers, in any order, give the results of a single process."""

import filecmp
import os
from pathlib import Path

import cv2
import pytest
import torch
from deqdet import UsageError
from deqdet.commands import detect as command
from deqdet.inference import run
from deqdet.inference.journal import NAME, Journal, absorb, part_journals
from deqdet.inference.workers import Part, Workers, parse_part
from detecting import picture, with_masks_as_with_boxes, write_pictures
from refusals import refused

SHAPES = [(60, 80), None, (80, 60), (1, 400), (400, 1), (62, 80), (60, 81)]


@pytest.fixture
def detect(files, inferencer, tmp_path, monkeypatch, capsys):
    """Run the command with a shared inferencer; returns status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, 'DEQDetInferencer', lambda *args, **kwargs: inferencer)

    def detect(*words):
        try:
            command.main([*map(str, files), *map(str, words)])
            status = 0
        except SystemExit as exit:
            status = exit.code
        printed = capsys.readouterr()
        return status, printed.out.strip(), printed.err

    return detect


@pytest.fixture
def images(tmp_path):
    """Images of many sizes, one of them broken, and two with the same name."""
    for folder in 'ab':
        (tmp_path / folder).mkdir()
        for number, shape in enumerate(SHAPES[:3 if folder == 'b' else None]):
            path = tmp_path / folder / f'{number}.png'
            path.touch() if shape is None else cv2.imwrite(str(path), picture(number, shape))
    return 'a', 'b', '--steps', 0, '--batch-size', 2, '--score', 0.25, '--csv'


def tree(folder, *, journals=False):
    """Files of a folder with their bytes. They do not contain its name, so folders can be compared."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob('*')
            if path.is_file() and (journals or not path.name.startswith('journal'))}


@with_masks_as_with_boxes
def test_shards_in_any_order_give_what_one_process_gives(detect, images):
    status, whole, broken = detect(*images, 'whole.csv', '--out', 'whole')
    assert status == command.SOME_BROKEN and whole.startswith('8 images')
    assert {'vis/0.png', 'vis/b/0.png'} <= set(tree('whole'))
    for shard, missing in ('3/3', '1/3, 2/3'), ('1/3', '2/3'):
        status, line, error = detect(*images, 'parts.csv', '--out', 'parts', '--shard', shard)
        assert status == 0 and line.startswith(f'shard {shard} ') and line.endswith(f' {missing}')
        assert not Path('parts/detections.json').exists() and 'could not be read' not in error
    status, line, error = detect(*images, 'parts.csv', '--out', 'parts', '--shard', '2/3')
    assert (status, line) == (command.SOME_BROKEN, whole.replace('whole', 'parts'))
    assert error.split('could not')[1] == broken.split('could not')[1]
    assert tree('parts') == tree('whole') and filecmp.cmp('parts.csv', 'whole.csv', shallow=False)
    # A single process takes over the shards' work. After that the journals are equal, too.
    assert detect(*images, 'parts.csv', '--out', 'parts')[0] == command.SOME_BROKEN
    assert tree('parts', journals=True) == tree('whole', journals=True)


def test_other_numbers_of_shards_go_on_from_what_was_killed(detect, images, inferencer, monkeypatch):
    detect(*images, 'whole.csv', '--out', 'whole')
    detect(*images, 'parts.csv', '--out', 'parts', '--shard', '1/4')
    journal = Path('parts', 'journal.1-of-4.jsonl')
    journal.write_bytes(journal.read_bytes()[:-40])  # as if killed in the middle of a line
    read, batches = [], inferencer.batches
    monkeypatch.setattr(inferencer, 'batches', lambda inputs, *args, **kwargs: (
        read.extend(inputs), batches(inputs, *args, **kwargs))[1])
    detect(*images, 'parts.csv', '--out', 'parts', '--shard', '1/2')
    status, _, _ = detect(*images, 'parts.csv', '--out', 'parts', '--no-pictures')
    assert status == command.SOME_BROKEN
    assert not part_journals(Path('parts'))  # they were absorbed
    assert len(read) == len(set(read)) < 10
    assert filecmp.cmp('parts/detections.json', 'whole/detections.json', shallow=False)
    detect(*images, 'parts.csv', '--out', 'parts')  # now draws the pictures, too
    assert tree('parts') == tree('whole')


def test_shards_draw_again_for_another_score(detect, images, inferencer, monkeypatch):
    detect(*images, 'all.csv', '--out', 'whole')
    for number in 1, 2:
        detect(*images, 'all.csv', '--out', 'parts', '--shard', f'{number}/2', '--no-pictures')
    monkeypatch.setattr(inferencer, 'forward', None)
    for _ in range(2):
        for number in 1, 2:
            detect(*images, 'all.csv', '--out', 'parts', '--shard', f'{number}/2')
        assert tree('parts') == tree('whole')
        monkeypatch.setattr(inferencer, 'paint', None)  # nothing may be drawn again


def test_more_shards_than_images(detect, tmp_path):
    write_pictures(tmp_path / 'in', 2)
    lines = [detect('in', '--shard', f'{number}/5')[1] for number in (5, 1, 2)]
    assert lines[0].endswith('shard 1/5, 2/5') and lines[1].endswith('shard 2/5')
    assert lines[2].startswith('2 images')


@with_masks_as_with_boxes
def test_a_video_belongs_to_one_shard(detect, tmp_path, monkeypatch):
    monkeypatch.setattr(run, '_FRAMES_A_LINE', 2)
    for number in range(3):
        (tmp_path / f'clip{number}').mkdir()
        for frame in range(3):
            cv2.imwrite(str(tmp_path / f'clip{number}' / f'{frame}.png'), picture(frame + number, (60, 80)))
    (tmp_path / 'clip1' / '1.png').write_bytes(b'')
    words = 'clip0', 'clip1', 'clip2', '--frames', '--steps', 2, '--tol', 0
    assert detect(*words, '--out', 'whole')[0] == command.SOME_BROKEN
    detect(*words, '--out', 'parts', '--shard', '1/2')
    journal = Path('parts', 'journal.1-of-2.jsonl')
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b''.join(lines[:-2]) + lines[-2][:50])  # as if killed in its second video, clip2
    for shard, status in ('2/2', 0), ('1/2', command.SOME_BROKEN):
        assert detect(*words, '--out', 'parts', '--shard', shard)[0] == status
    assert tree('parts') == tree('whole')
    assert detect(*words, '--out', 'parts')[0] == command.SOME_BROKEN
    assert tree('parts', journals=True) == tree('whole', journals=True)


def as_worker(rank, port):
    """Environment of one of two workers."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', LOCAL_WORLD_SIZE='2',
                      MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), CUDA_VISIBLE_DEVICES='-1')


@pytest.fixture
def two_workers(detect, free_port, monkeypatch):
    """Run the command in this process and in a fork of it; returns both statuses, stdout and stderr."""
    monkeypatch.setattr(os, 'environ', dict(os.environ))
    threads = torch.get_num_threads()

    def two_workers(*words):
        child = os.fork()
        as_worker(int(child == 0), free_port)
        words = *words, '--launcher', 'pytorch'
        if child == 0:
            status = 99
            try:
                status, printed, error = detect(*words)
                status += 50 * bool(printed or error)
            finally:
                os._exit(status)
        status, *printed = detect(*words)
        return status, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), *printed

    yield two_workers
    torch.set_num_threads(threads)


@with_masks_as_with_boxes
def test_two_workers_give_what_one_process_gives(detect, two_workers, images):
    status, whole, broken = detect(*images, 'whole.csv', '--out', 'whole')
    detect(*images, 'parts.csv', '--out', 'parts', '--shard', '3/3')  # finish a part first
    first, second, line, error = two_workers(*images, 'parts.csv', '--out', 'parts')
    assert (first, second) == (command.SOME_BROKEN, 0) and line == whole.replace('whole', 'parts')
    assert error.split('could not')[1] == broken.split('could not')[1] and 'worker 1/2: 4 of 4' in error
    assert tree('parts') == tree('whole') and not part_journals(Path('parts'))


def test_workers_of_a_shard(detect, two_workers, images):
    detect(*images, 'whole.csv', '--out', 'whole')
    assert two_workers(*images, 'parts.csv', '--out', 'parts', '--shard', '2/2')[:2] == (0, 0)
    assert [path.name for path in part_journals(Path('parts'))] == ['journal.2-of-2.jsonl']
    detect(*images, 'parts.csv', '--out', 'parts', '--shard', '1/2')
    assert tree('parts') == tree('whole')


@pytest.mark.parametrize('word', ['0/4', '5/4', '1', '1/0', 'a/b', '-1/4', '1/4/2', '٣/4'])
def test_what_is_no_shard(detect, word):
    with refused('bad-argument', f'--shard {word}', 'I/N'):
        detect('in', f'--shard={word}')


def test_what_shards_refuse(detect, tmp_path):
    write_pictures(tmp_path / 'in', 2)
    with pytest.raises(UsageError, match='--restart would delete the results of the other shards'):
        detect('in', '--shard', '1/2', '--restart')
    detect('in', '--shard', '1/2')
    with refused('bad-journal', 'journal.1-of-2.jsonl', 'steps None, now 1', '--out'):
        detect('in', '--shard', '2/2', '--steps', 1)
    with Path('detections', NAME).open('ab') as other:
        import fcntl
        fcntl.flock(other, fcntl.LOCK_EX)
        with refused('bad-journal', 'another process', '--out'):
            detect('in', '--shard', '2/2')
    part = Journal(Path('detections'), {}, name='journal.2-of-2.jsonl')
    with refused('bad-journal', 'another process', '--out'):
        detect('in')
    part.close()
    assert detect('in', '--restart')[0] == 0 and not part_journals(Path('detections'))


def test_pictures_of_shards_are_no_inputs(detect, tmp_path):
    write_pictures(tmp_path / 'in', 2)
    detect('in', '--out', 'out', '--shard', '2/2')
    assert [path.name for path in (tmp_path / 'out' / 'vis').iterdir()] == ['001.png']
    assert detect('.', '--out', 'other')[1].startswith('2 images')


def test_a_merge_that_was_killed_is_done_again(tmp_path):
    """If lines were copied but their file was not deleted, they still appear once in the results."""
    order = dict(a=0, b=1)
    part = Journal(tmp_path, {}, name='journal.1-of-2.jsonl')
    part.append(records=[dict(input='b')])
    part.append(records=[dict(input='a')])
    part.close()
    kept = part.path.read_bytes()
    for times in 1, 2:
        part.path.write_bytes(kept)
        whole = Journal(tmp_path, {})
        absorb(whole, order)
        assert [batch['records'][0]['input'] for _, batch in whole.places()] == ['a', 'b'] * times
        whole.close()
        assert not part_journals(tmp_path)


def test_neighbours_are_dealt_out():
    items = list(range(7))
    parts = [Part(number, 3).of(items) for number in (1, 2, 3)]
    assert parts == [[0, 3, 6], [1, 4], [2, 5]]
    assert parse_part('03/4') == Part(3, 4)
    assert Workers().share(lambda: 5) == 5 and Workers().first
