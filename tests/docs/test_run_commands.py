"""Run the marked commands and Python blocks of README and docs/ on the demo's model."""

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from mmengine.config import Config
from pages import PAGES, adapted, blocks, needed_packages
from ready import run_python
from small_model import ROOT

CONFIG, CHECKPOINT = 'configs/deqdet/deqdet_digits.py', 'work_dirs/demo/epoch_8.pth'
#: Files that replace the reader's own.
PLACEHOLDERS = {'CONFIG': CONFIG, 'CHECKPOINT': CHECKPOINT, 'FILE.pth': CHECKPOINT}
#: Images of the demo's sets. Few are enough: the tests check that a command works, not its results.
COUNTS = dict(train=20, val=12, test=12)


def words_of(block):
    """Commands of a block, with the files of the test."""
    return [[PLACEHOLDERS.get(word, word) for word in words] for words in adapted(block)]


def blocks_to_run():
    """Blocks of each page, without blocks whose commands are all on other pages, which run them."""
    found = [(page, block) for page in PAGES for block in blocks(page) if block.kind == 'run']
    commands = {block.where: words_of(block) for _, block in found if block.language == 'bash'}
    for page, block in found:
        elsewhere = [words for other, its in found if other != page for words in commands.get(its.where, [])]
        if block.where in commands and all(words in elsewhere for words in commands[block.where]):
            del commands[block.where]
    return {page: [block for other, block in found
                   if other == page and (block.language == 'python' or block.where in commands)]
            for page, _ in found}


RUN = {page: found for page, found in blocks_to_run().items() if found}
CONFIGS = [block for page in PAGES for block in blocks(page) if block.kind == 'config']


def fewer(source, target, split, count):
    """A set of the demo's with its first images only."""
    name = f'annotations/{split}.json'
    truth = json.loads((source / name).read_text())
    truth['images'] = truth['images'][:count]
    kept = {image['id'] for image in truth['images']}
    truth['annotations'] = [each for each in truth['annotations'] if each['image_id'] in kept]
    (target / name).write_text(json.dumps(truth))
    (target / split).mkdir()
    for image in truth['images']:
        shutil.copy(source / split / image['file_name'], target / split)


@pytest.fixture
def checkout(demo, tmp_path):
    """A checkout after ``make demo``, with few images and the files that pages name."""
    for name in ('tools', 'projects', 'demo'):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs')
    digits = tmp_path / 'data/digits'
    (digits / 'annotations').mkdir(parents=True)
    for split, count in COUNTS.items():
        fewer(demo.folder / 'data/digits', digits, split, count)
    (tmp_path / 'work_dirs/demo').mkdir(parents=True)
    shutil.copy(demo.checkpoint(0), tmp_path / CHECKPOINT)
    images = [cv2.imread(str(digits / f'val/{number:06}.png')) for number in range(1, 6)]
    cv2.imwrite(str(tmp_path / 'photo.jpg'), images[0])
    cv2.imwrite(str(tmp_path / 'other.png'), images[1])
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(tmp_path / 'input.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 5, (width, height))
    for image in images:
        writer.write(image)
    writer.release()
    return tmp_path


def run(command, folder, where):
    """Run a command as a reader does in ``folder``. Python starts with its packages imported."""
    if command[0] == 'python':
        status, output = run_python(command[1:], folder)
        assert status == 0, f'{where}: {shlex.join(command)}\n{output[-5000:]}'
        return
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    done = subprocess.run(
        ['bash', '-c', shlex.join(command)], cwd=folder, capture_output=True, text=True, timeout=900,
        env=dict(os.environ, PATH=path, PYTHONPATH=str(ROOT / 'projects'), CUDA_VISIBLE_DEVICES='-1',
                 OMP_NUM_THREADS='1'))
    assert done.returncode == 0, (
        f'{where}: {shlex.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}')


@pytest.mark.slow
@pytest.mark.parametrize('page', RUN, ids=lambda page: page.name)
def test_a_page_runs(checkout, page):
    """Its blocks run in order, since later ones use files and names of earlier ones."""
    code = ''
    for block in RUN[page]:
        if any(importlib.util.find_spec(package) is None for package in needed_packages(block)):
            continue
        if block.language == 'python':
            code += block.text
            run(['python', '-c', code], checkout, block.where)
            continue
        for words in words_of(block):
            # The installed console command may belong to another checkout.
            words[:1] = ['python', '-m', 'deqdet'] if words[0] == 'deqdet' else words[:1]
            run(words, checkout, block.where)


@pytest.mark.parametrize('block', CONFIGS, ids=lambda block: block.where)
def test_a_config_of_a_page_is_one(tmp_path, block):
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs')
    path = tmp_path / block.settings[0]
    path.write_text(block.text)
    cfg = Config.fromfile(str(path))
    # The first string is the base config.
    base = Config.fromfile(str(path.parent / block.text.split("'")[1]))
    assert cfg.model.type == base.model.type
    assert cfg.to_dict() != base.to_dict(), f'{block.where} changes nothing'
