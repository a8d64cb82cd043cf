"""tools/dist_train.sh and tools/dist_test.sh: their commands, and real workers."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from data.tiny_coco import NO_PRETRAINED, write_config, write_dataset

ROOT = Path(__file__).resolve().parents[2]


def shell(script, *words, folder, **environment):
    return subprocess.run(
        ['bash', str(ROOT / 'tools' / script), *map(str, words)], cwd=folder, capture_output=True,
        text=True, timeout=300, env=dict(os.environ, **environment))


@pytest.fixture
def recorder(tmp_path):
    """An interpreter that records how it was called."""
    path = tmp_path / 'a python'
    path.write_text(
        f'#!{sys.executable} -S\n'
        'import json, os, sys\n'
        'print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]))\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize('script, words', [('dist_train.sh', ['my config.py']),
                                           ('dist_test.sh', ['my config.py', 'a model.pth'])])
def test_what_is_started(tmp_path, recorder, script, words):
    extra = ['--work-dir', 'a b', '--cfg-options', 'x="[1,2]"', 'y=$z *']
    done = shell(script, *words, 2, *extra, folder=tmp_path, PYTHON=recorder, PYTHONPATH='/mine',
                 CUDA_VISIBLE_DEVICES='3,1')
    called, environment, folder = json.loads(done.stdout)
    torchrun, workers, tool, *rest = called
    assert Path(torchrun).name == 'torchrun.py' and Path(torchrun).is_file()
    assert workers == '2'
    assert Path(tool) == ROOT / 'tools' / script.replace('dist_', '').replace('.sh', '.py')
    assert rest == [*words, '--launcher', 'pytorch', *extra]
    assert environment['CUDA_VISIBLE_DEVICES'] == '3,1'
    assert environment['PYTHONPATH'] == '/mine' and environment['PYTHONSAFEPATH'] == '1'
    assert folder == str(tmp_path)


@pytest.mark.parametrize('script, words, usage', [
    ('dist_train.sh', ['config.py'], 'CONFIG GPUS'),
    ('dist_train.sh', [], 'CONFIG GPUS'),
    ('dist_test.sh', ['config.py', '8'], 'CONFIG CHECKPOINT GPUS'),
])
def test_usage(tmp_path, script, words, usage):
    done = shell(script, *words, folder=tmp_path)
    assert done.returncode == 2
    assert 'usage: ' in done.stderr and usage in done.stderr


@pytest.mark.parametrize('workers', ['0', 'two'])
def test_number_of_workers(tmp_path, workers):
    done = shell('dist_train.sh', 'config.py', workers, folder=tmp_path, PYTHON=sys.executable)
    assert done.returncode == 2
    assert done.stderr.strip().endswith(f"must be 1 or more, not '{workers}'")


@pytest.mark.slow
@pytest.mark.parametrize('handler', ['', 'signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))'])
def test_sigterm_reaches_the_workers(tmp_path, handler):
    """Workers that the signal ends, and workers that first finish something."""
    script = tmp_path / 'worker.py'
    script.write_text(f'import os, signal, sys, time\n{handler}\n'
                      'open("ready" + os.environ["RANK"], "w").close()\ntime.sleep(60)\n')
    with open(tmp_path / 'errors', 'w') as errors:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / 'projects/deqdet/launching/torchrun.py'), '2', str(script)],
            cwd=tmp_path, stderr=errors)
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob('ready*'))) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.terminate()
        assert process.wait(timeout=60) == 143
    assert not (tmp_path / 'errors').read_text()


@pytest.mark.slow
def test_train_and_test(tmp_path):
    workers = 2
    folder = tmp_path / 'a folder'
    write_config(folder / 'tiny.py', write_dataset(folder / 'data'))
    environment = dict(PYTHON=sys.executable, CUDA_VISIBLE_DEVICES='-1')
    done = shell('dist_train.sh', 'tiny.py', workers, '--work-dir', 'my work', '--amp',
                 '--cfg-options', NO_PRETRAINED, folder=folder, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count('evaluation: bbox_mAP ') == 1 and 'Average Precision' not in done.stdout
    for word in ('ChildFailedError', 'destroy_process_group', 'leak'):
        assert word not in done.stderr
    checkpoint = folder / 'my work' / 'epoch_1.pth'
    # Four images are two batches for one worker, or one batch for each of two.
    assert torch.load(checkpoint, weights_only=False)['meta']['iter'] == 2 // workers
    done = shell('dist_test.sh', 'tiny.py', checkpoint, workers, '--out', 'results.pkl',
                 folder=folder, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / 'results.pkl').stat().st_size > 0


@pytest.mark.slow
def test_two_workers_end_in_one_line(tmp_path):
    write_config(tmp_path / 'tiny.py', write_dataset(tmp_path / 'data'))
    done = shell('dist_train.sh', 'tiny.py', 2, '--cfg-options', NO_PRETRAINED,
                 'model.bbox_head.num_classes=80', folder=tmp_path, PYTHON=sys.executable,
                 CUDA_VISIBLE_DEVICES='-1')
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if 'rror' in line]
    assert len(errors) == 1 and errors[0].startswith('error: model.bbox_head.num_classes is 80')
