"""tools/slurm_train.sh and tools/slurm_test.sh: their srun commands, and real tasks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from data.tiny_coco import NO_PRETRAINED, write_config, write_dataset

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ('GPUS', 'GPUS_PER_NODE', 'CPUS_PER_TASK', 'SRUN_ARGS', 'PORT', 'PYTHON')


def shell(script, *words, folder, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return subprocess.run(
        ['bash', str(ROOT / 'tools' / script), *map(str, words)], cwd=folder, capture_output=True,
        text=True, timeout=300, env=dict(clean, **environment))


@pytest.fixture
def srun(tmp_path):
    """PATH with an srun that records how it was called."""
    path = tmp_path / 'bin' / 'srun'
    path.parent.mkdir()
    path.write_text(
        f'#!{sys.executable} -S\n'
        'import json, os, sys\n'
        'print(json.dumps([sys.argv[1:], dict(os.environ)]))\n')
    path.chmod(0o755)
    return f'{path.parent}:{os.environ["PATH"]}'


@pytest.mark.parametrize('script, words, given', [
    ('slurm_train.sh', ['a config.py', 'a folder'], ['a config.py', '--work-dir', 'a folder']),
    ('slurm_test.sh', ['a config.py', 'a model.pth'], ['a config.py', 'a model.pth'])])
def test_what_is_started(tmp_path, srun, script, words, given):
    extra = ['--cfg-options', 'x="[1,2]"', 'y=$z *']
    done = shell(script, 'part', 'a job', *words, *extra, folder=tmp_path, PATH=srun,
                 PYTHON='/a python', PYTHONPATH='/mine', GPUS='16', CPUS_PER_TASK='3',
                 SRUN_ARGS='--time=10 --quotatype=auto', CUDA_VISIBLE_DEVICES='3,1')
    called, environment = json.loads(done.stdout)
    end = called.index('/a python')
    assert called[:end] == [
        '--partition=part', '--job-name=a job', '--gres=gpu:8', '--ntasks=16', '--ntasks-per-node=8',
        '--cpus-per-task=3', '--kill-on-bad-exit=1', '--time=10', '--quotatype=auto']
    tool = ROOT / 'tools' / script.replace('slurm_', '').replace('.sh', '.py')
    assert called[end + 1:] == ['-u', str(tool), *given, '--launcher', 'slurm', *extra]
    assert environment['PYTHONPATH'] == '/mine' and environment['PYTHONSAFEPATH'] == '1'
    assert environment['CUDA_VISIBLE_DEVICES'] == '3,1'


@pytest.mark.parametrize('settings, layout', [
    (dict(), ['--gres=gpu:8', '--ntasks=8', '--ntasks-per-node=8']),
    (dict(GPUS='2'), ['--gres=gpu:2', '--ntasks=2', '--ntasks-per-node=2']),
    (dict(GPUS='8', GPUS_PER_NODE='4'), ['--gres=gpu:4', '--ntasks=8', '--ntasks-per-node=4']),
    (dict(GPUS='0'), ['--ntasks=1']),
    (dict(GPUS='2', GPUS_PER_NODE='0'), ['--ntasks=2'])])
def test_layout(tmp_path, srun, settings, layout):
    done = shell('slurm_train.sh', 'p', 'j', 'c.py', 'w', folder=tmp_path, PATH=srun, **settings)
    called = json.loads(done.stdout)[0]
    assert called[2:called.index('--cpus-per-task=5')] == layout


@pytest.mark.parametrize('script, words', [('slurm_train.sh', 'CONFIG WORK_DIR'),
                                           ('slurm_test.sh', 'CONFIG CHECKPOINT')])
def test_usage(tmp_path, script, words):
    done = shell(script, 'partition', 'job', 'config.py', folder=tmp_path)
    assert done.returncode == 2
    assert f'PARTITION JOB_NAME {words} [options' in done.stderr and 'GPUS_PER_NODE' in done.stderr


def test_a_number_that_is_none(tmp_path, srun):
    done = shell('slurm_train.sh', 'p', 'j', 'c.py', 'w', folder=tmp_path, PATH=srun, GPUS='two')
    assert (done.returncode, done.stderr) == (2, "error: GPUS must be a number, not 'two'\n")


def test_no_slurm_here(tmp_path):
    for name in ('bash', 'dirname'):
        (tmp_path / name).symlink_to(shutil.which(name))
    done = shell('slurm_train.sh', 'p', 'j', 'c.py', 'w', folder=tmp_path, PATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith('error: srun is missing') and done.stderr.count('\n') == 1


def slurm_missing():
    """Why there is no Slurm for the test, or None."""
    if not shutil.which('srun'):
        return 'Slurm is not installed (no srun)'
    try:
        subprocess.run(['srun', '--ntasks=2', '--immediate=5', 'true'], check=True, timeout=15,
                       capture_output=True)
    except subprocess.SubprocessError:
        return 'srun cannot start two tasks on the default partition'


@pytest.mark.slow
def test_train_and_test(tmp_path):
    """Two tasks on CPUs of the default partition."""
    reason = slurm_missing()
    if reason:
        pytest.skip(reason)
    partition = subprocess.run(['sinfo', '--noheader', '--format=%P'], capture_output=True, text=True)
    partition = next(name[:-1] for name in partition.stdout.split() if name.endswith('*'))
    write_config(tmp_path / 'tiny.py', write_dataset(tmp_path / 'data'))
    settings = dict(folder=tmp_path, PYTHON=sys.executable, CUDA_VISIBLE_DEVICES='-1', GPUS='2',
                    GPUS_PER_NODE='0', CPUS_PER_TASK='1')
    done = shell('slurm_train.sh', partition, 'job', 'tiny.py', 'my work', '--cfg-options',
                 NO_PRETRAINED, '--verbose', **settings)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'GPU number: 2' in done.stdout and 'Average Precision' in done.stdout
    done = shell('slurm_test.sh', partition, 'job', 'tiny.py', 'my work/epoch_1.pth', '--out',
                 'results.pkl', **settings)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / 'results.pkl').stat().st_size > 0
    done = shell('slurm_test.sh', partition, 'job', 'tiny.py', 'gone.pth', **settings)
    assert done.returncode != 0 and done.stderr.count('error: checkpoint: gone.pth ') == 1
