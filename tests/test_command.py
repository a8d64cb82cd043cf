"""The command ``deqdet`` and the names of configs, in the checkout; test_wheel.py tests an installed one."""

import os
import subprocess
import sys
from pathlib import Path

import deqdet
import pytest
from deqdet.shipped import find_config
from refusals import refused
from small_model import DEMO_CONFIG, ROOT


def command(*words, folder):
    """Run the command; returns exit status, output and errors."""
    done = subprocess.run(
        [sys.executable, '-c', 'from deqdet_command import main; main()', *map(str, words)], cwd=folder,
        text=True, capture_output=True, timeout=120, env=dict(os.environ, PYTHONPATH=str(ROOT / 'projects')))
    return done.returncode, done.stdout, done.stderr


def names_in(listing):
    return [line.split()[0] for line in listing.splitlines() if line.startswith('  ')]


def test_help_has_a_line_for_each_tool(tmp_path):
    status, listing, _ = command('--help', folder=tmp_path)
    lines = [line for line in listing.splitlines() if line.startswith('  ')]
    assert status == 0 and {'train', 'test', 'export', 'checkpoint', 'dist_train', 'slurm_test', 'check',
                            'make_digits', 'convergence'} <= set(names_in(listing))
    assert all(len(line.split(None, 1)) == 2 for line in lines)
    # These are parts of other tools, or useful in the checkout only.
    assert not {'workers', 'demo', 'montage', 'check_python', 'api'} & set(names_in(listing))
    # Each command is a module, with a file at the same place below tools.
    modules, files = ({path.relative_to(folder).as_posix() for path in folder.glob('**/*.py')
                       if path.parent.name != 'docs'} for folder in (
                           ROOT / 'projects/deqdet/commands', ROOT / 'tools'))
    commands = {path for path in modules if not path.endswith('__init__.py')}
    assert commands == files - {'montage.py', 'check_python.py'}
    names = {path.rpartition('/')[2][:-len('.py')] for path in commands}
    assert names < set(names_in(listing)) and 'analysis' not in names_in(listing)


def test_help_of_a_folder(tmp_path):
    status, listing, _ = command('analysis', folder=tmp_path)
    assert status == 0 and {'convergence', 'benchmark'} <= set(names_in(listing))
    assert 'train' not in names_in(listing)


def test_version_is_that_of_the_package(tmp_path):
    assert command('--version', folder=tmp_path) == (0, f'deqdet {deqdet.__version__}\n', '')


@pytest.mark.parametrize('words, near', [
    (['tset'], "'test'"), (['covergence'], "'convergence'"), (['analysis', 'trian'], ''), (['xyzzy'], '')])
def test_an_unknown_command_is_one_line(words, near, tmp_path):
    status, out, error = command(*words, folder=tmp_path)
    assert (status, out) == (2, '') and error.count('\n') == 1
    assert error.startswith(f'error: unknown command {words[-1]!r}')
    assert ('did you mean' in error) == bool(near) and near in error


def test_a_tool_gets_its_words_under_the_name_of_the_command(tmp_path):
    """make_digits imports neither torch nor mmdet."""
    pytest.importorskip('sklearn')
    status, out, _ = command('make-digits', '--help', folder=tmp_path)
    assert status == 0 and out.startswith('usage: deqdet make_digits ')
    status, out, error = command(
        'dataset', 'make_digits', 'set', '--train', 2, '--val', 1, '--test', 1, folder=tmp_path)
    assert status == 0, error
    assert (tmp_path / 'set/annotations/val.json').is_file()
    status, _, error = command('make_digits', '--train', 'many', folder=tmp_path)
    assert status == 2 and error.startswith('deqdet make_digits: error: ')


def test_a_shell_tool(tmp_path):
    status, _, error = command('dist-train', folder=tmp_path)
    assert status == 2 and 'dist_train.sh CONFIG GPUS' in error


@pytest.mark.parametrize('name', [
    'deqdet_digits', 'deqdet_digits.py', 'deqdet/deqdet_digits', 'configs/deqdet/deqdet_digits.py'])
def test_configs_by_name(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == DEMO_CONFIG


def test_every_config_has_a_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    files = [path for folder in ('projects/configs', 'configs') for path in (ROOT / folder).rglob('*.py')
             if '_base_' not in path.parts]
    by_name = {path.stem: path for path in files}  # if a published name is also a config's, the config wins
    same = [path for path in files if by_name[path.stem] != path]
    assert len(by_name) > 35 and {path.parent for path in same} == {ROOT / 'projects/configs'}
    for name, path in by_name.items():
        assert find_config(name) == path
    for path in files:
        assert find_config(path.relative_to(ROOT)) == path


def test_a_file_comes_before_a_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path('deqdet_digits.py').write_text('x = 1\n')
    assert find_config('deqdet_digits.py') == Path('deqdet_digits.py')
    assert find_config('deqdet_digits') == DEMO_CONFIG


@pytest.mark.parametrize('name, near', [
    ('deqdet_digit', 'deqdet_digits?'), ('digits', ''), ('_base_/datasets/digits.py', '')])
def test_a_name_that_does_not_exist(name, near):
    with refused('missing-file', f' {name} ', os.getcwd(), near) as error:
        find_config(name)
    assert ('?' in error.value.message) == bool(near)
