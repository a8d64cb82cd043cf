"""A checkpoint of another model is refused. The message has the file, the difference and the fix."""

import os
import re

import pytest
import torch
from deqdet.checkpoints.check import CheckpointCheckHook, check_checkpoint_file
from deqdet.checkpoints.fit import fit_weights
from deqdet.compat.checkpoint_loading import safe_checkpoint_loading
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from refusals import refused
from released import state_dict_of_table
from small_model import ROOT, build, small_mask_head
from torch import nn
from torch.utils.data import Dataset


class Points(Dataset):

    def __len__(self):
        return 4

    def __getitem__(self, number):
        return dict(inputs=torch.full((3, ), float(number)))


class Model(BaseModel):
    """The smallest backbone and classifier."""

    def __init__(self, *, width=4, classes=2, depth=3):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width),
                                      *[nn.Linear(width, width) for _ in range(depth)])
        self.bbox_head = nn.ModuleDict(dict(fc_cls=nn.Linear(width, classes)))

    def forward(self, inputs, mode='tensor'):
        scores = self.bbox_head['fc_cls'](self.backbone(torch.stack(list(inputs))))
        return dict(loss=scores.square().mean()) if mode == 'loss' else [scores]




def runner_of(model, work_dir, *, hooks=(), epochs=1, **kwargs):
    return Runner(
        model=model, work_dir=str(work_dir), experiment_name=str(work_dir).replace('/', '_'),
        train_dataloader=dict(batch_size=2, dataset=Points(), sampler=dict(type='DefaultSampler')),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[dict(type='CheckpointCheckHook'), *hooks], default_scope='mmdet', **kwargs)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A checkpoint after one epoch, with the state of an average of the weights."""
    folder = tmp_path_factory.mktemp('trained')
    runner_of(Model(), folder, hooks=[dict(type='EMAHook')]).train()
    return str(folder / 'epoch_1.pth')


def start(model, tmp_path, checkpoint, **kwargs):
    with safe_checkpoint_loading():
        runner = runner_of(model, tmp_path, load_from=str(checkpoint), **kwargs)
        runner.train()
    return runner


class Log:
    """A logger that keeps its messages."""

    def __init__(self):
        self.info_lines, self.warnings = [], []

    def info(self, line):
        self.info_lines.append(line)

    def warning(self, line):
        self.warnings.append(line)


def check(model, checkpoint, *, training=False, resume=False):
    """Call the hook as the Runner does; returns the log."""
    from types import SimpleNamespace

    from mmengine.runner import EpochBasedTrainLoop
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop) if training else None
    runner = SimpleNamespace(model=model, _load_from='some.pth', work_dir='.', _resume=resume,
                             _train_loop=loop, logger=Log())
    CheckpointCheckHook().after_load_checkpoint(runner, checkpoint)
    return runner.logger


def checkpoint_of(model, **changes):
    return dict(state_dict={**model.state_dict(), **changes}, meta={}, message_hub={})


class TestFit:

    def test_all_there(self):
        wrapped = {f'module.{name}': value for name, value in Model().state_dict().items()}
        _, fit = fit_weights(wrapped, Model())
        assert fit.fitting == fit.total > 0

    def test_counters_of_batch_norm_do_not_count(self):
        state = Model().state_dict()
        del state['backbone.1.num_batches_tracked']
        _, fit = fit_weights(state, Model())
        assert fit.fitting == fit.total

    def test_what_differs(self):
        state = Model(classes=5).state_dict()
        state['surplus'] = state.pop('backbone.0.bias')
        state['roi_head.bbox_head.0.instance_interactive_conv.weight'] = torch.zeros(1)
        _, fit = fit_weights(state, Model())
        assert fit.missing == ['backbone.0.bias']
        assert fit.reshaped['bbox_head.fc_cls.weight'] == ((5, 4), (2, 4))
        assert fit.extra == ['surplus']
        assert fit.fitting == fit.total - 3


class TestTestAndResume:

    @pytest.mark.parametrize('case', [dict(), dict(training=True, resume=True)])
    def test_another_number_of_classes(self, case):
        with refused('checkpoint-mismatch', 'some.pth', '12 of 14 tensors', '80 outputs', 'num_classes',
                     'bbox_head.fc_cls.weight (80, 4) in the file, (2, 4) in the model'):
            check(Model(), checkpoint_of(Model(classes=80)), **case)

    def test_another_backbone(self):
        with refused('checkpoint-mismatch', 'not in the file: backbone.4.weight', 'another backbone'):
            check(Model(), checkpoint_of(Model(depth=2)))

    def test_another_detector(self):
        with refused('checkpoint-mismatch', '0 of 14 tensors', 'and 10 more', 'use the config'):
            check(Model(), dict(state_dict=dict(weight=torch.zeros(1))))

    def test_surplus_is_logged_and_known_leftovers_are_not(self):
        extra = {name: torch.zeros(1) for name in ('surplus', 'a.instance_interactive_conv.bias')}
        log = check(Model(), checkpoint_of(Model(), **extra))
        line, = log.info_lines
        assert 'some.pth' in line and '1 tensors' in line and '(surplus)' in line
        assert check(Model(), checkpoint_of(Model())).info_lines == []

    def test_weights_alone_are_enough_to_test_but_not_to_resume(self):
        weights = Model().state_dict()
        check(Model(), weights)
        with refused('resume-mismatch', 'message_hub', 'load_from=FILE', '--resume'):
            check(Model(), dict(state_dict=weights, meta={}), training=True, resume=True)


class TestAnotherArchitectureThatHasAllTensors:
    """ResNet-101 has all the names of ResNet-50, and six stacked layers those of two."""

    @pytest.fixture
    def model(self):
        """The R50 model, only names and shapes."""
        cfg = Config.fromfile(str(ROOT / 'configs' / 'deqdet' / 'deqdet_r50_2x_coco.py'))
        with torch.device('meta'):
            return MODELS.build(cfg.model)

    @pytest.fixture(params=['deeper', 'stacked'])
    def file(self, request):
        if request.param == 'deeper':
            return state_dict_of_table('deqdet_r101_2x')
        two = state_dict_of_table('deqdet_r50_2x')
        return {**two, **{name.replace('bbox_head.1', f'bbox_head.{number}'): value
                          for name, value in two.items() for number in range(2, 6) if 'bbox_head.1' in name}}

    def test_is_refused(self, model, file):
        with refused('checkpoint-mismatch', '343 of 343 tensors', 'not in the model: ') as caught:
            check(model, dict(state_dict=file))
        assert re.search('instead of (ResNet-50|2)', caught.value.message)
        assert 'instance_interactive_conv' not in caught.value.message

    def test_may_be_started_from(self, model, file):
        line, = check(model, dict(state_dict=file), training=True).warnings
        assert '343 of 343 tensors' in line and 'not in the model: ' in line


class TestFineTuning:

    def test_what_stays_as_initialised_is_named(self):
        log = check(Model(), checkpoint_of(Model(classes=80)), training=True)
        line, = log.warnings
        assert '12 of 14 tensors' in line and 'bbox_head.fc_cls.bias (80,) in the file' in line

    def test_less_than_half_is_an_error(self):
        with refused('checkpoint-mismatch', ' 1 of 14 tensors'):
            check(Model(), checkpoint_of(Model(width=8)), training=True)


class TestMasks:

    @pytest.fixture
    def models(self):
        """The same detector with boxes only, and with local masks."""
        return build(), build(mask_head=small_mask_head())

    def test_new_mask_heads_are_named(self, models):
        boxes, masks = models
        line, = check(masks, checkpoint_of(boxes), training=True).warnings
        assert re.search(r'some.pth: (\d+) of (?!\1)\d+ tensors of the model are loaded; the mask heads '
                         r'are new \(\d+ tensors\) and keep their initial values$', line)
        with refused('checkpoint-mismatch', 'not in the file: the mask heads: the file has no mask heads'):
            check(masks, checkpoint_of(boxes))
        log = check(masks, checkpoint_of(masks), training=True)
        assert not log.warnings and not log.info_lines

    @pytest.mark.parametrize('training', [False, True])
    def test_mask_heads_of_the_file_are_ignored(self, models, training):
        boxes, masks = models
        log = check(boxes, checkpoint_of(masks, surplus=torch.zeros(1)), training=training)
        first, second = log.info_lines
        count = sum('mask_head' in name for name in masks.state_dict())
        assert first == ('checkpoint some.pth: its mask heads are ignored, because the config has no '
                         f'mask_head ({count} tensors)')
        assert '1 tensors are not in the model and are ignored (surplus)' in second and not log.warnings

    def test_new_mask_heads_beside_another_difference(self, models):
        boxes, masks = models
        changed = {'rpn_head.init_proposal_bboxes.weight': torch.zeros(9, 4)}
        line, = check(masks, checkpoint_of(boxes, **changed), training=True).warnings
        assert 'not in the file: the mask heads; of another shape: rpn_head.init_proposal_bboxes' in line


class TestUnderTheRunner:

    def test_resume_with_an_average_of_the_weights(self, tmp_path, trained):
        runner = start(Model(), tmp_path, trained, resume=True, epochs=2,
                       hooks=[dict(type='EMAHook')])
        assert runner.epoch == 2

    def test_resume_another_model(self, tmp_path, trained):
        with refused('checkpoint-mismatch', 'epoch_1.pth'):
            start(Model(classes=3), tmp_path, trained, resume=True)

    def test_last_checkpoint_is_named(self, tmp_path):
        runner_of(Model(), tmp_path).train()
        with refused('checkpoint-mismatch', f'{tmp_path}/epoch_1.pth'), safe_checkpoint_loading():
            runner_of(Model(classes=3), tmp_path, resume=True).train()

    def test_fine_tuning(self, tmp_path, trained):
        model = Model(classes=3)
        start(model, tmp_path, trained)
        assert model.bbox_head['fc_cls'].weight.shape == (3, 4)


class TestFile:

    def check(self, path):
        with safe_checkpoint_loading():
            check_checkpoint_file(str(path))

    def test_good(self, trained):
        self.check(trained)

    def test_a_url_is_not_looked_at(self):
        self.check('https://example.com/model.pth')

    def test_missing(self, tmp_path):
        with refused('missing-file', 'checkpoint: ', 'gone.pth'):
            self.check(tmp_path / 'gone.pth')

    @pytest.mark.parametrize('old_format', [False, True])
    def test_truncated(self, tmp_path, old_format):
        path = tmp_path / 'half.pth'
        torch.save(dict(state_dict=nn.Linear(99, 99).state_dict()), path,
                   _use_new_zipfile_serialization=not old_format)
        self.check(path)
        path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
        with refused('bad-checkpoint', 'half.pth', f'{path.stat().st_size} bytes'):
            self.check(path)

    @pytest.mark.parametrize('content', [b'', b'<!DOCTYPE html><html>', b'\x80\x02garbage'])
    def test_something_else(self, tmp_path, content):
        path = tmp_path / 'page.pth'
        path.write_bytes(content)
        with refused('bad-checkpoint', 'page.pth', f'{len(content)} bytes'):
            self.check(path)

    @pytest.mark.parametrize('content, found', [
        ([1, 2], 'list'), (dict(epoch=3), 'epoch'), ({}, 'none')])
    def test_no_weights(self, tmp_path, content, found):
        path = tmp_path / 'other.pth'
        torch.save(content, path)
        with refused('bad-checkpoint', 'other.pth', 'state_dict', found):
            self.check(path)

    def test_code_inside(self, tmp_path):
        path = tmp_path / 'code.pth'
        torch.save(dict(state_dict=nn.Linear(1, 1).state_dict(), extra=_Code(tmp_path)), path)
        with refused('untrusted-checkpoint', 'code.pth', 'posix.mkdir', '--trust-checkpoint'):
            self.check(path)
        assert not (tmp_path / 'made').exists()


class _Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / 'made'), )


def test_damage_in_the_middle_is_seen(tmp_path):
    path = tmp_path / 'model.pth'
    torch.save(dict(state_dict=dict(weight=torch.rand(100_000))), path)
    content = bytearray(path.read_bytes())
    content[200_000:200_016] = bytes(16)
    path.write_bytes(content)
    with safe_checkpoint_loading(), refused('bad-checkpoint', str(path), 'model/data/0'):
        check_checkpoint_file(str(path))


def test_a_file_without_checksums_is_taken(tmp_path):
    path = tmp_path / 'model.pth'
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(dict(state_dict=dict(weight=torch.rand(10))), path)
    finally:
        torch.serialization.set_crc32_options(True)
    with safe_checkpoint_loading():
        assert check_checkpoint_file(str(path))['state_dict']['weight'].shape == (10, )
