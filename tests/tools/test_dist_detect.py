"""tools/dist_detect.sh and tools/slurm_detect.sh: their commands, and workers of which one is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from deqdet.commands.detect import SOME_BROKEN
from deqdet.inference.journal import part_journals
from detecting import write_detector, write_pictures
from small_model import ROOT


def command(script, *words):
    return ['bash', str(ROOT / 'tools' / script), *map(str, words)]


def environment(**more):
    return dict(os.environ, PYTHON=sys.executable, CUDA_VISIBLE_DEVICES='-1', OMP_NUM_THREADS='1', **more)


@pytest.fixture
def recorder(tmp_path):
    """A program that records how it was called."""
    path = tmp_path / 'bin' / 'srun'
    path.parent.mkdir()
    path.write_text(f'#!{sys.executable} -S\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n')
    path.chmod(0o755)
    return path


def test_what_is_started(recorder):
    extra = ['an image.png', '*.jpg', '--out', 'a b']
    done = subprocess.run(command('dist_detect.sh', 'c.py', 'a model.pth', 2, *extra), text=True,
                          capture_output=True, env=environment() | dict(PYTHON=str(recorder)))
    torchrun, workers, tool, *rest = json.loads(done.stdout)
    assert Path(torchrun).is_file() and workers == '2' and Path(tool) == ROOT / 'tools' / 'detect.py'
    assert rest == ['c.py', 'a model.pth', '--launcher', 'pytorch', *extra]
    done = subprocess.run(command('slurm_detect.sh', 'part', 'job', 'c.py', 'a model.pth', *extra), text=True,
                          capture_output=True, env=environment(
                              GPUS='4', PATH=f'{recorder.parent}:{os.environ["PATH"]}'))
    called = json.loads(done.stdout)
    assert called[:3] == ['--partition=part', '--job-name=job', '--gres=gpu:4']
    assert called[-8:] == ['c.py', 'a model.pth', '--launcher', 'slurm', *extra]


@pytest.mark.parametrize('script, words, usage', [
    ('dist_detect.sh', ['c.py', 'm.pth', '2'], 'CONFIG CHECKPOINT GPUS INPUT ...'),
    ('slurm_detect.sh', ['p', 'j', 'c.py', 'm.pth'], 'PARTITION JOB_NAME CONFIG CHECKPOINT INPUT ...')])
def test_usage(script, words, usage):
    done = subprocess.run(command(script, *words), text=True, capture_output=True)
    assert done.returncode == 2 and usage in done.stderr


def processes_below(parent):
    """Ids of the processes that a process has started."""
    found = []
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = stat.read_text().rpartition(')')[2].split()
        except OSError:  # the process has ended
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def lines_of_parts(folder):
    return {path.name: path.read_bytes().count(b'\n') for path in part_journals(folder)} \
        if folder.exists() else {}


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='looks for workers in /proc')
def test_one_worker_and_three_of_which_one_is_killed(tmp_path):
    files = write_detector(tmp_path)
    folder = write_pictures(tmp_path / 'in', 200)
    (folder / '007.png').write_bytes(b'')
    (folder / '150.png').write_bytes((folder / '150.png').read_bytes()[:900])

    def words(workers, out):
        return command('dist_detect.sh', *files, workers, 'in', '--out', out, '--batch-size', 4, '--steps', 0,
                       '--score', 0.4, '--csv', f'{out}.csv')

    how = dict(cwd=tmp_path, env=environment(), text=True)
    one = subprocess.run(words(1, 'one'), capture_output=True, timeout=300, **how)
    assert one.returncode == SOME_BROKEN and '198 images' in one.stdout, one.stderr[-3000:]
    with open(tmp_path / 'errors', 'w+') as errors:
        launch = subprocess.Popen(words(3, 'three'), stdout=errors, stderr=errors, **how)
        try:
            deadline = time.monotonic() + 200
            while min(lines_of_parts(tmp_path / 'three').values(), default=0) < 4:
                assert launch.poll() is None and time.monotonic() < deadline, Path(errors.name).read_text()
                time.sleep(0.05)
            os.kill(sorted(processes_below(launch.pid))[1], signal.SIGKILL)
            assert launch.wait(timeout=60) == 128 + signal.SIGKILL
        finally:
            launch.kill()
        told = [line for line in Path(errors.name).read_text().splitlines() if 'rror' in line]
        assert len(told) == 1 and 'was killed (SIGKILL)' in told[0]
    known = lines_of_parts(tmp_path / 'three')
    assert len(known) == 3 and min(known.values()) >= 4 and sum(known.values()) < 50
    again = subprocess.run(words(3, 'three'), capture_output=True, timeout=300, **how)
    assert again.returncode == SOME_BROKEN, again.stderr[-3000:]
    assert again.stdout.splitlines()[-1] == one.stdout.splitlines()[-1].replace('one', 'three')
    assert again.stderr.split('could not be read')[1] == one.stderr.split('could not be read')[1]
    # No duplicates, no losses, and only the journal of the job.
    records = [record['input'] for line in (tmp_path / 'three/journal.jsonl').read_text().splitlines()[1:]
               for record in json.loads(line)['records']]
    assert len(records) == len(set(records)) == 200
    results = [{path: content for path, content in tree(tmp_path / name).items() if path.suffix != '.jsonl'}
               for name in ('one', 'three')]
    assert results[0] == results[1] and len(results[0]) == 199
    assert (tmp_path / 'one.csv').read_bytes() == (tmp_path / 'three.csv').read_bytes()


@pytest.mark.slow
def test_workers_report_a_fault_once(tmp_path):
    files = write_detector(tmp_path)
    for words, message in ((['in', '--device', 'cpu:0'], 'is one device, for 2 workers'),
                           (['in', '--batch-size', 'many'], 'invalid int value')):
        write_pictures(tmp_path / 'in', 1)
        done = subprocess.run(command('dist_detect.sh', *files, 2, *words), cwd=tmp_path, text=True,
                              capture_output=True, env=environment(), timeout=200)
        assert done.returncode == 2, done.stderr[-3000:]
        assert done.stderr.count('error: ') == done.stderr.count(message) == 1, done.stderr[-3000:]
