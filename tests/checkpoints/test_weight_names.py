"""Weights with the names that wrappers give them, and models whose own hooks rename weights on loading."""

from copy import deepcopy

import pytest
import refusals
import torch
from deqdet.checkpoints.check import CheckpointCheckHook, state_dict_of
from deqdet.checkpoints.fit import fit_weights
from deqdet.checkpoints.publishing import published
from deqdet.checkpoints.weight_names import without_wrappers
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import BaseModel, ExponentialMovingAverage
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from small_model import build, small_config
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel


@pytest.fixture(scope='module')
def trained():
    """A detector whose every tensor differs from those of a new one."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build()
    with torch.no_grad():
        for value in model.state_dict().values():
            value += 1
    return model


def prefixed(model, prefix):
    return {prefix + name: value for name, value in model.state_dict().items()}


def with_compiled_backbone(model):
    model = deepcopy(model)
    model.backbone = torch.compile(model.backbone)
    return model.state_dict()


def with_checkpointed_backbone(model):
    """FSDP and activation checkpointing rename parameters; their state_dict has the old names."""
    model = deepcopy(model)
    model.backbone = checkpoint_wrapper(model.backbone)
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: value for name, value in state.items() if not name.startswith('data_preprocessor')}


def with_averages_of_mmdet_2(model):
    state = model.state_dict()
    averages = {f'ema_{name.replace(".", "_")}': torch.zeros_like(value) for name, value in state.items()}
    return {**state, **averages}


WRAPPED = {
    'plain': lambda model: model.state_dict(),
    'DDP': lambda model: prefixed(model, 'module.'),
    'DDP of a compiled model': lambda model: prefixed(model, 'module._orig_mod.'),
    'compiled DDP': lambda model: prefixed(model, '_orig_mod.module.'),
    'FSDP': lambda model: prefixed(model, '_fsdp_wrapped_module.'),
    'compiled backbone': with_compiled_backbone,
    'DDP of one with a compiled backbone': lambda model: {
        f'module.{name}': value for name, value in with_compiled_backbone(model).items()},
    'checkpointed backbone': with_checkpointed_backbone,
    'average of torch': lambda model: AveragedModel(model, use_buffers=True).state_dict(),
    'average of mmengine': lambda model: ExponentialMovingAverage(model, update_buffers=True).state_dict(),
    'averages of mmdet 2': with_averages_of_mmdet_2,
}


@pytest.mark.parametrize('wrapper', WRAPPED)
def test_words_of_wrappers_are_removed_anywhere(wrapper, trained):
    state, model = WRAPPED[wrapper](trained), build()
    weights, fit = fit_weights(state, model)
    assert fit.fitting == fit.total > 80 and not fit.extra
    model.load_state_dict(weights)
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in model.state_dict().items())
    # For tools that have no model.
    assert set(without_wrappers(state)) == set(model.state_dict())
    assert set(published(dict(state_dict=state), 'x.pth')['state_dict']) == set(model.state_dict())


def test_the_model_is_not_changed_by_comparing(trained):
    model = build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit_weights(trained.state_dict(), model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class WithModule(BaseModel):
    """A model whose own parts have names that wrappers use."""

    def __init__(self):
        super().__init__()
        self.module = nn.ModuleDict(dict(first=nn.Linear(2, 3), module=nn.Linear(2, 5)))
        self.first = nn.Linear(2, 4)

    def forward(self, inputs, mode='tensor'):
        return dict(loss=self.first.weight.sum())


@pytest.mark.parametrize('prefix', ['', 'module.', '_orig_mod.', 'module._orig_mod.'])
@pytest.mark.parametrize('hooks', [[], [dict(type='EMAHook')]])
def test_a_part_that_is_really_named_module(prefix, hooks, tmp_path):
    saved = WithModule()
    torch.save(dict(state_dict=prefixed(saved, prefix), meta={}), tmp_path / 'x.pth')
    runner = Runner(
        model=WithModule(), work_dir=str(tmp_path), experiment_name=tmp_path.name, default_scope='mmdet',
        train_dataloader=dict(batch_size=1, dataset=[0], sampler=dict(type='DefaultSampler')),
        train_cfg=dict(by_epoch=True, max_epochs=1), optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.)),
        custom_hooks=[dict(type='CheckpointCheckHook'), *hooks], load_from=str(tmp_path / 'x.pth'))
    runner.train()
    loaded = runner.model.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in saved.state_dict().items())


def test_weights_that_two_wrappers_hold_go_where_they_belong():
    """Only the model is wrapped, or both are, in different ways."""
    plain = nn.ModuleDict(dict(body=nn.Linear(2, 3), module=nn.Linear(2, 2)))
    model = deepcopy(plain)
    model['body'] = torch.compile(model['body'])
    for state in (plain.state_dict(), prefixed(plain, 'module._orig_mod.')):
        weights, fit = fit_weights(state, model)
        assert fit.fitting == fit.total == 4
        model.load_state_dict(weights)


@pytest.fixture
def semi():
    """mmdet's semi-supervised detector around a small DEQDet."""
    detector = small_config()
    return MODELS.build(dict(
        type='SemiBaseDetector', detector=detector,
        data_preprocessor=dict(
            type='MultiBranchDataPreprocessor', data_preprocessor=detector.data_preprocessor),
        semi_train_cfg=dict(freeze_teacher=True, sup_weight=1., unsup_weight=1., cls_pseudo_thr=0.9),
        semi_test_cfg=dict(predict_on='teacher')))


def runner_with(model, tmp_path, checkpoint):
    torch.save(checkpoint, tmp_path / 'x.pth')
    return Runner(
        model=model, work_dir=str(tmp_path), experiment_name=tmp_path.name, default_scope='mmdet',
        custom_hooks=[dict(type='CheckpointCheckHook')], load_from=str(tmp_path / 'x.pth'),
        test_dataloader=dict(batch_size=1, dataset=[0], sampler=dict(type='DefaultSampler')),
        test_evaluator=[], test_cfg=dict())


@pytest.mark.parametrize('prefix', ['', 'module._orig_mod.'])
def test_a_supervised_checkpoint_fills_student_and_teacher(prefix, semi, trained, tmp_path):
    model = deepcopy(semi)
    runner = runner_with(model, tmp_path, dict(state_dict=prefixed(trained, prefix)))
    runner.load_or_resume()
    for name, value in trained.state_dict().items():
        assert torch.equal(model.student.state_dict()[name], value)
        assert torch.equal(model.teacher.state_dict()[name], value)


def test_a_semi_supervised_checkpoint_for_one_detector_names_its_prefixes(semi, tmp_path):
    runner = runner_with(build(), tmp_path, dict(state_dict=semi.state_dict()))
    with refusals.refused('checkpoint-mismatch', "'student.' or 'teacher.'", '--prefix student.'):
        runner.load_or_resume()


def test_a_foreign_prefix_is_named_and_can_be_removed(trained, call, refused, tmp_path, capsys):
    """Lightning keeps the network under ``model``."""
    torch.save(dict(state_dict=prefixed(trained, 'model.')), tmp_path / 'lit.ckpt')
    runner = runner_with(build(), tmp_path, dict(state_dict=prefixed(trained, 'model.')))
    total = len([name for name in trained.state_dict() if 'num_batches_tracked' not in name])
    with refusals.refused('checkpoint-mismatch', "'model.'", f' {total} ', '--prefix model.'):
        runner.load_or_resume()
    call('checkpoint.py', 'strip', 'lit.ckpt', 'out.pth', '--prefix', 'model.')
    out = capsys.readouterr().out.splitlines()[-1].split(':')[0]
    assert set(torch.load(out, weights_only=False)['state_dict']) == set(trained.state_dict())
    line = refused('checkpoint.py', 'strip', 'lit.ckpt', 'out.pth', '--prefix', 'net.')
    assert '--prefix net.' in line and '[bad-argument]' in line


@pytest.mark.parametrize('nest', [
    lambda state: state, lambda state: dict(state_dict=state), lambda state: dict(model=state, epoch=3),
    lambda state: dict(ema_state_dict=state), lambda state: dict(model=dict(state_dict=state)),
    lambda state: dict(optimizer=dict(state={}), module=state, args=None)])
def test_weights_are_found_where_other_programs_keep_them(nest, trained, tmp_path):
    checkpoint = nest(prefixed(trained, 'module._orig_mod.'))
    assert len(state_dict_of(checkpoint, 'x.pth')) == len(trained.state_dict())
    model = build()
    runner_with(model, tmp_path, checkpoint).load_or_resume()
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in model.state_dict().items())


def test_the_average_beside_the_weights_is_renamed_as_they_are(trained):
    """On resuming, EMAHook finds its tensors under the model's names."""
    wrapped = deepcopy(trained)
    wrapped.backbone = torch.compile(wrapped.backbone)
    checkpoint = dict(state_dict=wrapped.state_dict(), meta={}, message_hub={},
                      ema_state_dict=ExponentialMovingAverage(wrapped).state_dict())
    runner = Runner.__new__(Runner)
    runner.__dict__.update(model=build(), _load_from='x.pth', _resume=True, _train_loop=None)
    CheckpointCheckHook().after_load_checkpoint(runner, checkpoint)
    names = set(trained.state_dict())
    assert set(checkpoint['state_dict']) == names
    assert set(checkpoint['ema_state_dict']) == {'steps', *(f'module.{name}' for name in names)}


def test_tools_read_such_files(trained, call, tmp_path, capsys):
    config = tmp_path / 'config.py'
    Config(dict(model=small_config(), default_scope='mmdet')).dump(str(config))
    torch.save(dict(state_dict=prefixed(trained, 'module._orig_mod.')), tmp_path / 'x.pth')
    with pytest.raises(SystemExit) as caught:
        call('checkpoint.py', 'compare', 'x.pth', config)
    assert caught.value.code == 0
    call('checkpoint.py', 'convert', 'x.pth', 'x.safetensors')
    call('checkpoint.py', 'inspect', 'x.safetensors')
    assert 'ResNet' in capsys.readouterr().out
