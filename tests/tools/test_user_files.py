"""A user's files may have the names of packages, in any folder; his own modules are found."""

import os
import shutil
import subprocess
import sys

import pytest
from small_model import ROOT

NAMES = ('json', 'lvis', 'mlflow', 'numpy', 'random', 'test', 'types', 'wandb', 'yaml')


@pytest.fixture
def checkout(tmp_path):
    """A checkout with such files at its top and beside the tools."""
    shutil.copytree(ROOT / 'tools', tmp_path / 'tools')
    (tmp_path / 'projects').symlink_to(ROOT / 'projects')
    (tmp_path / 'datasets').mkdir()
    for folder in (tmp_path, tmp_path / 'tools'):
        for name in {*NAMES} - ({'test'} if folder.name == 'tools' else set()):
            (folder / f'{name}.py').write_text("raise SystemExit('a file of the user was imported')")
    (tmp_path / 'my_data.py').write_text("import lvis_data\nprint('my own module is here')")
    (tmp_path / 'lvis_data.py').write_text('')
    # This config cannot be imported as a module, since mmengine provides `_base_`.
    (tmp_path / 'lvis.py').write_text("_base_ = './base.py'\nmodel = _base_.model\n"
                                      "custom_imports = dict(imports=['my_data'])\n")
    (tmp_path / 'base.py').write_text('model = dict(type=1)')
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize('command', [[sys.executable, 'tools/train.py', 'lvis.py'],
                                     ['bash', 'tools/dist_train.sh', 'lvis.py', '1']])
def test_installed_packages_come_first(checkout, command):
    environment = dict(os.environ, PYTHON=sys.executable, OMP_NUM_THREADS='1')
    environment.pop('PYTHONPATH', None)
    done = subprocess.run(command, cwd=checkout, env=environment, text=True, capture_output=True, timeout=120)
    assert 'a file of the user' not in done.stdout + done.stderr
    assert 'my own module is here' in done.stdout and done.returncode
