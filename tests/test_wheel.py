"""The built package in a new environment, outside the checkout.

Installing torch, mmdet and the other dependencies again would take minutes and a network. Instead, the new
environment finds them in the site-packages of the running one. The tests make sure that the package, its
configs, tools and command come from the wheel.
"""

import email
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import deqdet
import pytest
import yaml
from small_model import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The wheel, built from the source archive, and the one from the checkout."""
    pytest.importorskip('build')
    out = tmp_path_factory.mktemp('dist')
    done = subprocess.run([sys.executable, '-m', 'build', '--no-isolation', '--outdir', str(out), str(ROOT)],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-1000:]
    path, = out.glob('*.whl')
    return path


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    """Runs a program of the new environment in an empty folder; returns its output, or its error message."""
    top = tmp_path_factory.mktemp('new')
    environment, folder = top / 'venv', top / 'work'
    folder.mkdir()
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', str(environment)], check=True, timeout=120)
    variables = {name: value for name, value in os.environ.items() if not name.startswith('PYTHON')}
    variables.update(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='-1')
    subprocess.run([sys.executable, '-m', 'pip', '--python', str(environment / 'bin/python'), 'install', '-q',
                    '--no-deps', '--no-index', str(wheel)], env=variables, check=True, timeout=120)
    packages, = environment.glob('lib/python*/site-packages')
    # Folders in a .pth file are searched last, and their own .pth files (of an editable installation) are not
    # read.
    others = [path for path in sys.path if Path(path).name in ('site-packages', 'dist-packages')]
    (packages / 'others.pth').write_text('\n'.join(others) + '\n')

    def run(program, *words, status=0):
        done = subprocess.run([str(environment / 'bin' / program), *map(str, words)], cwd=folder,
                              env=variables, capture_output=True, text=True, timeout=300)
        assert done.returncode == status, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stderr if status else done.stdout

    run.folder, run.packages = folder, packages
    return run


def test_a_wheel_has_everything(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    code = {path.relative_to(ROOT / 'projects').as_posix()
            for path in (ROOT / 'projects/deqdet').rglob('*.py')}
    assert code | {'deqdet_command.py', 'deqdet_path.py', 'deqdet/py.typed'} <= names
    for folder in ('configs', 'projects/configs'):
        files = {f'deqdet/.mim/{path.relative_to(ROOT).as_posix()}' for path in (ROOT / folder).rglob('*.py')}
        assert files <= names
    tools = {f'deqdet/.mim/tools/{name}' for name in ('train.py', 'dist_train.sh', 'dataset/check.py')}
    assert tools <= names
    assert not [name for name in names if name.startswith(('tests', 'tools', 'configs')) or '.pyc' in name]


def test_metadata(wheel):
    name = f'deqdet-{deqdet.__version__}.dist-info/METADATA'
    metadata = email.message_from_bytes(zipfile.ZipFile(wheel).read(name))
    assert metadata['Version'] == deqdet.__version__ and metadata['License-Expression'] == 'Apache-2.0'
    assert {'onedl', 'openmmlab', 'export', 'app', 'docs', 'dev'} <= set(metadata.get_all('Provides-Extra'))


def test_the_package_registers_and_builds(installed):
    """The R50 2x config, by its name, with random weights."""
    installed.folder.joinpath('build.py').write_text('''
import json, deqdet
from deqdet.shipped import find_config
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
path = find_config('deqdet_r50_2x_coco')
cfg = Config.fromfile(path)
cfg.model.backbone.init_cfg = None
init_default_scope('mmdet')
model = MODELS.build(cfg.model)
million = round(sum(p.numel() for p in model.parameters()) / 1e6, 1)
print(json.dumps([deqdet.__file__, str(path), type(model.roi_head).__module__, million]))
''')
    where, config, module, million = json.loads(installed('python', 'build.py').splitlines()[-1])
    assert Path(where).parent == installed.packages / 'deqdet'
    assert Path(config).is_relative_to(installed.packages / 'deqdet/.mim')
    index = yaml.safe_load((ROOT / 'configs/deqdet/metafile.yml').read_text(encoding='utf-8'))
    model, = [model for model in index['Models'] if model['Name'] == 'deqdet_r50_2x_coco']
    assert module == 'deqdet.model.heads.deq' and million == model['Metadata']['Parameters (M)']


def test_the_command_trains_and_tests(installed):
    """On four images, with the real data flow; each class exists once under both names of the package."""
    assert installed('deqdet', '--version') == f'deqdet {deqdet.__version__}\n'
    assert '  train ' in installed('deqdet', '--help')
    installed('deqdet', 'make_digits', '--train', 4, '--val', 2, '--test', 1)
    assert 'data/digits' in installed('deqdet', 'check', 'deqdet_digits', '--quick', '--samples', 0)
    options = ['--cfg-options', "custom_imports.imports=['projects.deqdet']"]
    installed('deqdet', 'train', 'deqdet_digits', *options, 'train_cfg.max_epochs=1')
    checkpoint = 'work_dirs/deqdet_digits/epoch_1.pth'
    installed('deqdet', 'test', 'deqdet_digits', checkpoint, *options, 'test_evaluator.outfile_prefix=one')
    # The launcher of the package.
    installed('deqdet', 'dist_test', 'deqdet_digits', checkpoint, 1,
              '--cfg-options', 'test_evaluator.outfile_prefix=two')
    one, two = ((installed.folder / f'{name}.bbox.json').read_text() for name in ('one', 'two'))
    assert json.loads(one) and one == two
    installed('deqdet', 'detect', 'deqdet_digits', checkpoint, 'data/digits/val', '--out', 'found')
    assert len(list((installed.folder / 'found/vis').rglob('*.png'))) == 2
    line = installed('deqdet', 'train', 'deqdet_digit', status=2).strip().splitlines()[-1]
    assert 'deqdet_digit ' in line and 'deqdet_digits?' in line and line.endswith(' [missing-file]')
