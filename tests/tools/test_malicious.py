"""No tool runs code from a file, and each error names the file."""


import pytest
from data.tiny_coco import write_config, write_dataset
from deqdet.checkpoints.check import check_checkpoint_file
from deqdet.compat.checkpoint_loading import safe_checkpoint_loading
from deqdet.errors import UsageError
from malicious import CHECKPOINTS, LYING
from small_model import DEMO_CONFIG, ROOT


@pytest.fixture
def made(tmp_path):
    """The folder that the code would make; it must not exist in the end."""
    yield tmp_path / 'made'
    assert not (tmp_path / 'made').exists()


@pytest.mark.parametrize('name', CHECKPOINTS)
@pytest.mark.filterwarnings('ignore')
def test_code_is_not_run_and_the_file_is_named(tmp_path, made, name):
    path = tmp_path / name
    path.write_bytes(CHECKPOINTS[name](made))
    with safe_checkpoint_loading(), pytest.raises(UsageError, match=name) as caught:
        check_checkpoint_file(str(path))
    assert caught.value.code in ('untrusted-checkpoint', 'bad-checkpoint')


def test_the_files_do_run_code_where_they_are_trusted(tmp_path, monkeypatch):
    """Otherwise the tests here could not fail."""
    import torch
    for name in ('system.pth', 'eval.pth', 'legacy.pth', 'objects.pth', 'optimizer.pth'):
        (tmp_path / name).write_bytes(CHECKPOINTS[name](tmp_path / f'by_{name}'))
        torch.load(tmp_path / name, weights_only=False)
        assert (tmp_path / f'by_{name}').is_dir()


@pytest.mark.parametrize('name', LYING)
def test_headers_that_lie(tmp_path, name):
    path = tmp_path / f'{name}.safetensors'
    path.write_bytes(LYING[name])
    with pytest.raises(UsageError, match=f'{name}.safetensors') as caught:
        check_checkpoint_file(str(path))
    assert caught.value.code == 'bad-checkpoint'


ENTRIES = {
    'test': ('test.py', 'CONFIG', 'FILE'),
    'load_from': ('train.py', 'CONFIG', '--cfg-options', 'load_from=FILE'),
    'resume': ('train.py', 'CONFIG', '--resume', 'FILE'),
    'pretrained': ('train.py', 'R50', '--cfg-options',
                   'model.backbone.init_cfg.checkpoint=FILE'),
    'pretrained of a stock detector': (
        'train.py', 'CONFIG', '--cfg-options', 'model.backbone.init_cfg.checkpoint=FILE'),
    'pretrained whole': ('train.py', 'CONFIG', '--cfg-options', 'model.backbone.init_cfg=None',
                         'model.init_cfg.type=Pretrained', 'model.init_cfg.checkpoint=FILE'),
    'inspect': ('checkpoint.py', 'inspect', 'FILE'),
    'compare': ('checkpoint.py', 'compare', 'FILE', 'CONFIG'),
    'strip': ('checkpoint.py', 'strip', 'FILE', 'out.pth'),
    'convert': ('checkpoint.py', 'convert', 'FILE', 'out.safetensors'),
    'export': ('export.py', 'DEMO', 'FILE', 'out.onnx'),
    'detect': ('detect.py', 'DEMO', 'FILE', 'data/images'),
    'benchmark': ('analysis/benchmark.py', 'DEMO', 'FILE', '--shape', '64', '64', '--no-memory'),
    'convergence': ('analysis/convergence.py', 'DEMO', 'FILE'),
    'refinement': ('analysis/refinement.py', 'DEMO', 'FILE', 'photo.png'),
    'warm start': ('analysis/warm_start.py', 'DEMO', 'FILE'),
    'refinement steps': ('analysis/refinement_steps.py', 'DEMO', 'FILE'),
    'exported': ('analysis/exported.py', 'DEMO', 'FILE', 'any.onnx'),
}


@pytest.mark.parametrize('words', ENTRIES.values(), ids=list(ENTRIES))
def test_every_tool(refused, tmp_path, made, words):
    config = write_config(tmp_path / 'tiny.py', write_dataset(tmp_path / 'data'))
    (tmp_path / 'photo.png').write_bytes((tmp_path / 'data/images/0.png').read_bytes())
    (tmp_path / 'any.onnx').touch()
    (tmp_path / 'code.pth').write_bytes(CHECKPOINTS['system.pth'](made))
    names = dict(CONFIG=str(config), DEMO=str(DEMO_CONFIG), R50=str(
        ROOT / 'configs/deqdet/deqdet_r50_1x_coco.py'), FILE='code.pth')
    line = refused(*(names.get(word, word.replace('=FILE', '=code.pth')) for word in words))
    assert 'code.pth' in line and '--trust-checkpoint' in line and '[untrusted-checkpoint]' in line


def test_the_last_checkpoint_of_a_work_dir(refused, tmp_path, made):
    write_config(tmp_path / 'tiny.py', write_dataset(tmp_path / 'data'))
    work_dir = tmp_path / 'work_dirs' / 'tiny'
    work_dir.mkdir(parents=True)
    (tmp_path / 'code.pth').write_bytes(CHECKPOINTS['optimizer.pth'](made))
    (work_dir / 'last_checkpoint').write_text(str(tmp_path / 'code.pth'))
    line = refused('train.py', 'tiny.py', '--resume')
    assert 'code.pth' in line and '[untrusted-checkpoint]' in line
