"""Values and keys of ``--cfg-options``: how they are read, and the error line for invalid ones."""

import argparse

import pytest
from deqdet.launching.configs import read_config
from deqdet.launching.options import config_lines, read_option
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config, DictAction
from refusals import refused


@pytest.fixture
def base(tmp_path):
    path = tmp_path / 'base.py'
    path.write_text("custom_hooks = []\nmodel = dict(type='A', part=dict(size=3))\n"
                    "param_scheduler = [dict(type='LinearLR', end=500), dict(type='MultiStepLR')]\n"
                    "train_cfg = dict(max_epochs=12)\n")
    return path


@pytest.mark.parametrize('text, value', [
    ('3', 3), ('1e-4', 1e-4), ('True', True), ('false', False), ('None', None), ('a/b.pth', 'a/b.pth'),
    ('', ''), ('a,b', ['a', 'b']), ('1,2', [1, 2]), ('[1,2]', [1, 2]), ('(1,2)', (1, 2)),
    ('[(1,2),(3,4)]', [(1, 2), (3, 4)]), ('(1,2),(3,4)', ((1, 2), (3, 4))), ('[a, b]', ['a', 'b']),
    ('"[1,2]"', [1, 2]), ('[]', []), ('[[a,b],c]', [['a', 'b'], 'c']),
    ('my file.pth', 'my file.pth'), ("['traffic light','car']", ['traffic light', 'car']), ('a=b', 'a=b'),
    ("['a,b','c']", ['a,b', 'c']), ('[None,True]', [None, True]), ('(1)', (1, )), ('C(1).png', 'C(1).png'),
    ("'run,2/a.pth'", 'run,2/a.pth'), ('{}.pth', '{}.pth')])
def test_values(text, value):
    found = read_option('key', text)
    assert found == value and type(found) is type(value)


@settings(max_examples=20, deadline=None)
@given(st.recursive(st.integers() | st.booleans() | st.none() | st.from_regex('[a-z]{1,5}', fullmatch=True),
                    lambda inside: st.lists(inside, min_size=1, max_size=3), max_leaves=8))
def test_lists_of_plain_words_are_read_as_by_mmengine(value):
    text = str(value).replace("'", '').replace(' ', '')
    namespace = argparse.Namespace()
    DictAction([], 'options')(argparse.ArgumentParser(), namespace, [f'key={text}'])
    assert read_option('key', text) == namespace.options['key']


@pytest.mark.parametrize('key, text, words', [
    ('a', '[1,2', 'brackets'), ('a', '[1,2)', 'brackets'), ('a', '1,2]', 'brackets'),
    ('a', '[(1,2])', 'brackets'), ('a', '[1', 'brackets'), ('a', 'x(1,2)', 'KEY="[(a,b),(c,d)]"'),
    ('a', "'[1,2]", 'quote'), ('a', '[' * 3000 + '1' + ']' * 3000, 'brackets'),
    ('a', '[traffic light,car]', "['traffic light', 'car']"), ('a..b', '1', "'a..b'"), ('.a', '1', "'.a'"),
    ('a b', '1', "'a b'"), ('key ', ' 1', "'key '")])
def test_what_cannot_be_read_is_one_line(key, text, words):
    with refused('bad-cfg-option', f'--cfg-options {key}={text[:80]}', words) as caught:
        read_option(key, text)
    assert len(caught.value.message) < 300


EMA = dict(type='EMAHook', update_buffers=True)


@pytest.mark.parametrize('key, text, value', [
    ('custom_hooks', "[dict(type='EMAHook', update_buffers=True)]", [EMA]),
    ('custom_hooks', '[dict(type=EMAHook, update_buffers=true)]', [EMA]),  # after the shell removed quotes
    ('custom_hooks', '[{"type": "EMAHook", "update_buffers": true}]', [EMA]),
    ('custom_hooks', '([dict(type=EMAHook)],)', ([dict(type='EMAHook')], )),
    ('model.part', "dict(size=(1,2), file='a b')", dict(size=(1, 2), file='a b')),
    ('model.part', '{"size": null}', dict(size=None)),
    ('model.part', "dict(file=data/a-b, lr=1e-4, low=-1)",
     dict(size=3, file='data/a-b', lr=1e-4, low=-1)),
    ('model.new.part', 'dict(x=1)', dict(x=1)),
    ('param_scheduler.1', "dict(type='CosineAnnealingLR', T_max=12)",
     dict(type='CosineAnnealingLR', T_max=12)),
])
def test_dictionaries_belong_in_a_config_and_the_line_works_there(key, text, value, base, tmp_path):
    with refused('bad-cfg-option', f'--cfg-options {key}') as caught:
        read_option(key, text, config=str(base))
    (tmp_path / 'mine.py').write_text(caught.value.message.split('`')[1])
    cfg = Config.fromfile(str(tmp_path / 'mine.py'))
    part = cfg
    for word in key.split('.'):
        part = part[int(word)] if word.isdigit() else part[word]
    found = part.to_dict() if hasattr(part, 'to_dict') else part
    if isinstance(value, dict) and 'size' in value:
        value = {'size': 3, **value}
    assert found == value
    assert cfg.train_cfg.max_epochs == 12 and len(cfg.param_scheduler) == 2


def test_a_dictionary_that_is_no_python_still_names_the_lines(base):
    assert config_lines('model.part', '{type:A', config=str(base)) == [
        f'_base_ = {str(base)!r}', 'model = dict(part=...)']
    assert config_lines('a', 'dict(b=1)')[0] == "_base_ = 'CONFIG.py'"


def set_in(base, *keys):
    """The config after each key was set to 1 by ``--cfg-options``."""
    return read_config(argparse.Namespace(config=str(base), cfg_options=dict.fromkeys(keys, 1)))


@pytest.mark.parametrize('key', [
    'param_scheduler.7.end', 'param_scheduler.first', 'param_scheduler.-1.end', 'custom_hooks.0',
    'train_cfg.max_epochs.x'])
def test_keys_without_a_place(key, base):
    with refused('bad-cfg-option', f'--cfg-options {key}') as caught:
        set_in(base, 'model.new', key)
    assert len(caught.value.message) < 300


def test_keys_with_a_place(base):
    cfg = set_in(base, 'param_scheduler.1.end', 'new.part', 'new.other', 'model.part.new', 'model.type')
    assert cfg.param_scheduler == [dict(type='LinearLR', end=500), dict(type='MultiStepLR', end=1)]
    assert cfg.model == dict(type=1, part=dict(size=3, new=1)) and cfg.new == dict(part=1, other=1)


def test_the_tool_says_it_in_one_line(refused, base):
    hooks = "[dict(type='EMAHook', update_buffers=True)]"
    line = refused('train.py', base, '--cfg-options', f'custom_hooks={hooks}')
    assert f'`_base_ = {str(base)!r}; custom_hooks = {hooks}`' in line and line.endswith(' [bad-cfg-option]')
    line = refused('train.py', base, '--cfg-options', 'param_scheduler.9.end=1')
    assert 'param_scheduler.9.end' in line and line.endswith(' [bad-cfg-option]')
