"""tools/train.py and tools/test.py, as mmdet users call them, on a detector of standard parts."""

import logging
import os
import pickle

import pytest
import torch
from data.tiny_coco import NO_PRETRAINED, write_config, write_dataset
from deqdet.files import disk
from deqdet.training import running
from mmengine.config import Config
from mmengine.visualization import Visualizer
from refusals import says


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path / 'tiny.py', write_dataset(tmp_path / 'data'))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A checkpoint of the newly initialised detector."""
    from mmdet.registry import MODELS
    from mmengine.registry import DefaultScope
    folder = tmp_path_factory.mktemp('trained')
    cfg = Config.fromfile(write_config(folder / 'tiny.py', folder))
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
        model.init_weights()
    torch.save(dict(state_dict=model.state_dict(), meta={}), folder / 'model.pth')
    return folder / 'model.pth'


def load(path):
    return torch.load(path, map_location='cpu', weights_only=False)


def usage_error(call, capsys, *words):
    with pytest.raises(SystemExit) as caught:
        call(*words)
    assert caught.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith('error: ')
    return line


def test_train_then_resume(call, config, tmp_path):
    """2 images per batch, 16 per step: the learning rate is for 16. It continues with another rate."""
    step = ['optim_wrapper.accumulative_counts=8', 'auto_scale_lr.base_batch_size=16']
    call('train.py', 'tiny.py', '--auto-scale-lr', '--cfg-options', NO_PRETRAINED, *step)
    work_dir = tmp_path / 'work_dirs' / 'tiny'
    first = load(work_dir / 'epoch_1.pth')
    assert first['meta']['epoch'] == 1 and first['meta']['iter'] == 2
    assert first['optimizer']['param_groups'][0]['lr'] == 0.001
    log = next(work_dir.glob('*/*.log')).read_text()
    assert 'gradients of 8 iterations (accumulative_counts): base_batch_size=16 is 2' in log
    assert 'accumulative_counts=8 does not divide the 2 iterations of an epoch' in log
    call('train.py', 'tiny.py', '--resume', '--new-schedule', '--amp', '--cfg-options', NO_PRETRAINED, *step,
         'train_cfg.max_epochs=2', 'optim_wrapper.optimizer.lr=0.002')
    second = load(work_dir / 'epoch_2.pth')
    assert second['meta']['iter'] == 4
    assert second['optimizer']['param_groups'][0]['lr'] == 0.002
    assert 'BFloat16OptimWrapper' in second['meta']['cfg']


def test_a_new_schedule_is_for_a_training_that_goes_on(call, config, capsys):
    line = usage_error(call, capsys, 'train.py', 'tiny.py', '--new-schedule')
    assert '--new-schedule' in line and '--resume' in line and line.endswith(' [missing-argument]')


def test_options_reach_the_runner(call, config, monkeypatch):
    seen = []
    monkeypatch.setattr(running.AccumulatingRunner, 'from_cfg', lambda cfg: seen.append(cfg) or _Idle())
    call('train.py', 'tiny.py', '--work-dir', 'my work', '--amp', '--auto-scale-lr', '--verbose',
         '--cfg-options', 'train_dataloader.batch_size=7')
    cfg, = seen
    assert cfg.work_dir == 'my work' and cfg.auto_scale_lr.enable
    assert cfg.optim_wrapper.type in ('BFloat16OptimWrapper', 'AmpOptimWrapper')
    assert cfg.train_dataloader.batch_size == 7
    assert not cfg.get('resume') and cfg.get('load_from') is None


class _Idle:

    visualizer = Visualizer()
    logger = logging.getLogger('idle')

    def train(self):
        pass


def test_resume_from_a_file_that_is_not_there(call, capsys, config):
    line = usage_error(call, capsys, 'train.py', 'tiny.py', '--resume', 'gone.pth')
    assert 'gone.pth' in line and '[missing-file]' in line


def test_resume_without_a_checkpoint_is_a_fresh_start(call, capsys, config, tmp_path):
    call('train.py', 'tiny.py', '--resume', '--cfg-options', NO_PRETRAINED)
    assert 'training starts from the beginning' in capsys.readouterr().out
    assert (tmp_path / 'work_dirs' / 'tiny' / 'epoch_1.pth').is_file()


def test_resume_passes_over_half_a_checkpoint(call, capsys, config, tmp_path):
    words = ['--cfg-options', NO_PRETRAINED, 'train_cfg.max_epochs=2']
    call('train.py', 'tiny.py', *words)
    work_dir = tmp_path / 'work_dirs' / 'tiny'
    half = work_dir / 'epoch_2.pth'
    half.write_bytes(half.read_bytes()[:1000])
    call('train.py', 'tiny.py', '--resume', *words)
    assert 'work_dirs/tiny/epoch_1.pth, the newest complete' in capsys.readouterr().out
    assert load(half)['meta']['iter'] == 4


def test_a_work_dir_that_cannot_be_written(call, capsys, config):
    line = usage_error(call, capsys, 'train.py', 'tiny.py', '--work-dir', 'tiny.py/work')
    assert 'tiny.py/work' in line and '--work-dir' in line and line.endswith(' [output-failed]')


def test_a_disk_without_room(call, capsys, config, monkeypatch):
    full = type('', (), dict(free=1000))
    monkeypatch.setattr(disk.shutil, 'disk_usage', lambda path: full)
    line = usage_error(call, capsys, 'train.py', 'tiny.py', '--cfg-options', NO_PRETRAINED)
    assert '0.000 GB are free, but 3 checkpoints need' in line and '--work-dir' in line


class _Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.makedirs, (str(self.folder), 0o777, True)


@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_only_who_says_so_loads_more_than_weights(call, capsys, config, trained, tmp_path, tool):
    torch.save(dict(load(trained), extra=_Code(tmp_path / 'made')), 'code.pth')
    words = ['tiny.py', 'code.pth'] if tool == 'test.py' else [
        'tiny.py', '--cfg-options', NO_PRETRAINED, 'load_from=code.pth']
    before = dict(os.environ)
    line = usage_error(call, capsys, tool, *words)
    assert '[untrusted-checkpoint]' in line
    assert all(word in line for word in ('code.pth', 'os.makedirs', '--trust-checkpoint'))
    assert not (tmp_path / 'made').exists()
    call(tool, *words, '--trust-checkpoint')
    assert (tmp_path / 'made').exists()
    assert {name: value for name, value in os.environ.items() if 'LOAD' in name} == \
        {name: value for name, value in before.items() if 'LOAD' in name}


def test_scaling_without_a_base(call, capsys, config):
    line = usage_error(call, capsys, 'train.py', 'tiny.py', '--auto-scale-lr', '--cfg-options',
                       'auto_scale_lr=None')
    assert '--auto-scale-lr' in line and 'base_batch_size' in line


def test_wrong_data_ends_in_one_line(call, capsys, config):
    line = usage_error(call, capsys, 'train.py', 'tiny.py', '--cfg-options', NO_PRETRAINED,
                       'model.bbox_head.num_classes=80')
    assert 'model.bbox_head.num_classes=2' in line
    line = usage_error(call, capsys, 'train.py', 'tiny.py', '--cfg-options',
                       'train_dataloader.dataset.data_root=elsewhere')
    assert 'train_dataloader.dataset.ann_file: elsewhere/annotations.json ' in line


def test_test_writes_what_was_asked_for(call, config, trained, tmp_path):
    # The pretrained weights of the config do not exist, and a test must not look for them.
    call('test.py', 'tiny.py', trained, '--work-dir', 'out', '--out', 'results.pkl',
         '--show-dir', 'seen')
    results = pickle.loads((tmp_path / 'results.pkl').read_bytes())
    assert [result['img_id'] for result in results] == [0, 1, 2, 3]
    assert results[0]['pred_instances']['bboxes'].shape == (5, 4)
    assert len(list((tmp_path / 'out').glob('*/seen/*.png'))) == 4


def wrapped(data):
    """The same images within wrappers. The last wrapper has its own pipeline, which packs the samples."""
    *steps, pack = data['pipeline']
    last = dict(type='MultiImageMixDataset', pipeline=[pack], dataset=dict(data, pipeline=steps, indices=-2))
    first = dict(type='RepeatDataset', times=1, dataset=dict(data, indices=2))
    return dict(type='ConcatDataset', datasets=[dict(type='RepeatDataset', times=1, dataset=first), last])


def test_test_time_augmentation(call, config, trained, tmp_path):
    found = []
    for name, wrap in (('plain', dict), ('wrapped', wrapped)):
        cfg = Config.fromfile(config)
        cfg.test_dataloader.dataset = wrap(cfg.test_dataloader.dataset)
        cfg.dump(str(tmp_path / f'{name}.py'))
        call('test.py', f'{name}.py', trained, '--tta', '--out', 'results.pkl')
        found.append([(sample['img_id'], sample['pred_instances']['bboxes'].tolist())
                      for sample in pickle.loads((tmp_path / 'results.pkl').read_bytes())])
    assert len(found[0]) == 4 and found[0] == found[1]


def test_test_ignores_resume_of_the_config(call, config, trained):
    call('test.py', 'tiny.py', trained, '--cfg-options', 'resume=True')


@pytest.mark.parametrize('words, message', [
    (['gone.py', 'model.pth'], 'config file gone.py'),
    (['tiny.py', 'gone.pth'], 'checkpoint: gone.pth '),
    (['tiny.py', 'tiny.py'], 'checkpoint tiny.py '),
])
def test_missing_files(call, capsys, config, words, message):
    assert message in usage_error(call, capsys, 'test.py', *words)


def test_checkpoint_of_another_model(call, capsys, config, trained):
    line = usage_error(call, capsys, 'test.py', 'tiny.py', trained, '--cfg-options',
                       'model.bbox_head.num_classes=5')
    assert 'model.pth' in line and 'num_classes' in line and '[checkpoint-mismatch]' in line


def test_out_is_a_pickle_file(call, capsys, config):
    with pytest.raises(SystemExit) as caught:
        call('test.py', 'tiny.py', 'model.pth', '--out', 'results.json')
    assert caught.value.code == 2
    assert 'must end in .pkl' in capsys.readouterr().err


@pytest.mark.parametrize('option, message', [
    ('optim_wrapper.optimizer.lrr=1', "'lrr' ... [unknown-setting]"),
    ('train_dataloader.dataset.foo=1', "'foo' ... [unknown-setting]"),
    ('model.backbone.foo=1', "'foo' ... [unknown-setting]"),
    ('optim_wrapper.optimizer.type=AdamX', "unknown type, 'AdamX'"),
    ('model.neck.type=Nek', "'Nek' ... [unknown-type]"),
])
def test_typos_in_the_config(refused, config, option, message):
    assert says(refused('train.py', 'tiny.py', '--cfg-options', NO_PRETRAINED, option), message)


def test_an_error_of_the_code_keeps_its_traceback(call, config, monkeypatch):
    from mmdet.models import SingleStageDetector

    def broken(self, *args, **kwargs):
        dict(1, 2, 3)

    monkeypatch.setattr(SingleStageDetector, 'loss', broken)
    with pytest.raises(TypeError, match='at most 1 argument'):
        call('train.py', 'tiny.py', '--cfg-options', NO_PRETRAINED)


def test_ctrl_c(call, config, monkeypatch, capsys):
    from mmengine.runner import Runner

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Runner, 'train', interrupted)
    with pytest.raises(SystemExit) as caught:
        call('train.py', 'tiny.py', '--cfg-options', NO_PRETRAINED)
    assert caught.value.code == 130
    assert 'with --resume' in capsys.readouterr().err.strip().splitlines()[-1]
