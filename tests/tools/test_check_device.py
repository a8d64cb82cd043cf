"""The command that checks a machine."""

import json
import subprocess
import sys

import pytest
import torch
from small_model import ROOT

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU is there')


@without_gpu
def test_a_torch_without_cuda_is_one_line(refused):
    line = refused('check_device.py', '--device', 'cuda')
    assert 'without CUDA' in line if torch.version.cuda is None else 'finds no GPU' in line
    assert line.endswith(' [no-device]')


@pytest.mark.parametrize('words, code', [
    (['--device', 'gpu'], 'bad-argument'), (['--device', 'meta'], 'no-device'),
    (['--device', 'cpu', '--golden', 'nowhere'], 'missing-file'),
    (['--device', 'cpu', '--rounds', '0'], 'bad-argument'),
    (['--device', 'cpu', '--out', 'nowhere/x.json'], 'missing-file')])
def test_wrong_words_are_one_line(refused, words, code):
    line = refused('check_device.py', *words)
    assert ' '.join(words[-2:]) in line and line.endswith(f' [{code}]')


def test_without_golden_cases_the_rest_is_done(call, capsys, monkeypatch, tmp_path):
    """As in a wheel, which has no golden cases."""
    monkeypatch.setenv('DEQDET_GOLDEN', str(tmp_path / 'none'))
    call('check_device.py', '--device', 'cpu', '--quick', '--only', 'golden', 'sampling', '--out',
         'found.json')
    said = capsys.readouterr().out
    assert '--golden FOLDER' in said and 'sampling rows against grid: gradients' in said
    found = json.loads((tmp_path / 'found.json').read_text())
    assert found['holds']
    assert [line['result'] for line in found['findings']][:3] == ['skipped', 'holds', 'holds']


def test_a_failure_is_status_1(call, capsys, monkeypatch):
    monkeypatch.setattr('deqdet.device_check.agreement._SAMPLING_BOUND', 0.0)
    with pytest.raises(SystemExit) as caught:
        call('check_device.py', '--device', 'cpu', '--quick', '--only', 'sampling')
    assert caught.value.code == 1
    assert 'failed: sampling rows against grid: values' in capsys.readouterr().out


@pytest.mark.slow
def test_this_cpu(tmp_path):
    """All except what tests/model/heads/test_compiled.py tests: compiling takes as long as the rest."""
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tools/check_device.py'), '--device', 'cpu', '--quick', '--skip',
         'compiled', '--seconds', '1000', '--out', str(tmp_path / 'found.json')],
        stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    found = json.loads((tmp_path / 'found.json').read_text())
    results = {line['check']: line['result'] for line in found['findings']}
    # Each part was completed.
    for name in ('instruction sets', 'golden deq_plain, float64: losses and gradients',
                 'golden mask_local, float32: masks',
                 'golden sparse_rcnn_deq, bfloat16: scores', 'golden ffn_three_stage, float16: losses',
                 'sampling rows against grid: gradients', 'waits in a solve: training path',
                 'training step with --amp', 'one worker over gloo', 'decoder: default',
                 'training step: default'):
        assert results[name] in ('holds', 'measured'), name
    assert found['holds'] and done.stdout.count('| check ') == 1
