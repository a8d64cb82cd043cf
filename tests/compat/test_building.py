"""Errors name the innermost part of a config that was being built, or the checkpoint."""

import pytest
import torch
from deqdet.compat.building import file_of, part_of, parts_named_in_errors
from deqdet.training.accumulation import AccumulatingRunner
from mmdet.registry import OPTIMIZERS
from mmengine.registry import Registry
from mmengine.runner import CheckpointLoader
from training import toy

PARTS = Registry('parts')


@PARTS.register_module()
class Outer:

    def __init__(self, inner):
        self.inner = PARTS.build(inner, default_args=dict(size=1))


@PARTS.register_module()
class Inner:

    def __init__(self, size):
        raise ValueError(f'size {size}')


def test_the_innermost_part():
    with parts_named_in_errors(), pytest.raises(ValueError, match='size 1') as caught:
        PARTS.build(dict(type='Outer', inner=dict(type='Inner')))
    assert part_of(caught.value) == ('Inner', dict(type='Inner'))


def test_nothing_is_left_behind():
    before = Registry.build, CheckpointLoader.load_checkpoint
    with parts_named_in_errors():
        assert Registry.build is not before[0]
    assert (Registry.build, CheckpointLoader.load_checkpoint) == before
    with pytest.raises(ValueError) as caught:
        PARTS.build(dict(type='Inner', size=2))
    assert part_of(caught.value) == (None, {})


def test_methods_of_the_runner():
    with pytest.raises(Exception) as caught:
        AccumulatingRunner.build_dataloader(3)
    assert part_of(caught.value) == ('a dataloader', {})


def test_an_optimiser_of_the_user(tmp_path):
    """It is registered with mmdet, or an instance."""
    OPTIMIZERS.register_module(name='Mine', module=torch.optim.SGD, force=True)
    cfg = toy.config(tmp_path, **{'optim_wrapper.optimizer.type': 'Mine', 'default_scope': 'mmdet'})
    runner = AccumulatingRunner.from_cfg(cfg)
    assert type(runner.build_optim_wrapper(cfg.optim_wrapper).optimizer) is torch.optim.SGD
    built = torch.optim.SGD(runner.model.parameters(), lr=0.1)
    assert runner.build_optim_wrapper(dict(type='OptimWrapper', optimizer=built)).optimizer is built


def test_the_checkpoint():
    with parts_named_in_errors(), pytest.raises(FileNotFoundError) as caught:
        CheckpointLoader.load_checkpoint('gone.pth')
    assert file_of(caught.value) == 'gone.pth' and file_of(ValueError()) == 'to load'
