"""Run configs and commands of docs/own_backbone_and_data.md on small images and with narrow models."""

import re
import shlex
import shutil
from argparse import ArgumentParser
from pathlib import Path
from xml.etree import ElementTree

import cv2
import pytest
import torch
from data.tiny_coco import write_dataset
from mmengine.config import Config, DictAction
from small_model import ROOT, build, few_queries, losses_of, total

PAGE = (ROOT / 'docs' / 'own_backbone_and_data.md').read_text(encoding='utf-8')
BLOCKS = re.findall(r'^```(\w+)\n(.*?)^```$', PAGE, flags=re.MULTILINE | re.DOTALL)
CONFIGS = {re.findall(r'^# (\S+\.py)\n', text)[0]: text for language, text in BLOCKS if language == 'python'}
#: Commands of a block, and their error line if they must fail.
COMMANDS = [(text, after[1].strip() if after[0] == 'text' else None)
            for (language, text), after in zip(BLOCKS, [*BLOCKS[1:], ('', '')]) if language == 'bash']

WIDTH = 32
NARROW = [
    f'model.neck.out_channels={WIDTH}', f'model.rpn_head.proposal_feature_channel={WIDTH}',
    'model.roi_head.refinement_steps=2', 'model.roi_head.supervision_position=[2]',
    *(f'model.roi_head.bbox_head.{layer}.{key}' for layer in (0, 1) for key in (
        f'content_dim={WIDTH}', f'feat_channels={WIDTH}', f'feedforward_channels={WIDTH}', 'in_points=4',
        'out_points=4'))]
#: An eighth of the width of ResNet-50, a quarter of that of ResNeXt-50.
R50 = ['model.backbone.base_channels=8', 'model.neck.in_channels=[32,64,128,256]']
BACKBONES = {
    'deqdet_x50-32x4d_1x_coco': ['model.backbone.base_channels=16', 'model.backbone.base_width=1',
                                 'model.neck.in_channels=[64,128,256,512]'],
    'narrow': [],
    'deqdet_r50_s16-32_1x_coco': ['model.backbone.base_channels=8', 'model.neck.in_channels=[128,256]']}
LOADERS = [f'{split}_dataloader.{key}' for split in ('train', 'val', 'test')
           for key in ('num_workers=0', 'persistent_workers=False')]
SMALL_IMAGES = ['train_dataloader.dataset.pipeline.2.scale=(64,64)',
                'val_dataloader.dataset.pipeline.1.scale=(64,64)',
                'test_dataloader.dataset.pipeline.1.scale=(64,64)']


def options_for(config, given=()):
    """Settings that shorten a config's training to seconds."""
    words = [*LOADERS, *NARROW, 'model.backbone.init_cfg=None']
    if not any(word.startswith('model.backbone.') for word in given):
        words += BACKBONES.get(config, R50)
    return words if config == 'small_pets' else words + SMALL_IMAGES


@pytest.fixture
def checkout(tmp_path):
    """A folder like a checkout with data: configs of the repository and of the page, small images."""
    from mmdet.datasets import CocoDataset
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    for name, text in CONFIGS.items():
        (tmp_path / name).write_text(text)
    pets = write_dataset(tmp_path / 'made', names=('cat', 'dog'))
    for split in ('train', 'val'):
        shutil.copytree(pets / 'images', tmp_path / 'data/pets' / split)
        shutil.copy(pets / 'annotations.json', tmp_path / f'data/pets/{split}.json')
    coco = write_dataset(tmp_path / 'made_coco', names=CocoDataset.METAINFO['classes'])
    (tmp_path / 'data/coco/annotations').mkdir(parents=True)
    for split in ('train2017', 'val2017'):
        shutil.copytree(coco / 'images', tmp_path / 'data/coco' / split)
        shutil.copy(coco / 'annotations.json', tmp_path / f'data/coco/annotations/instances_{split}.json')
    write_voc(tmp_path / 'data/voc_pets', pets)
    return tmp_path


def write_voc(root, pets):
    """The pets in Pascal VOC's format, which counts pixels from 1."""
    (root / 'JPEGImages').mkdir(parents=True)
    (root / 'Annotations').mkdir()
    truth = Config.fromfile(str(pets / 'annotations.json'))
    for image, annotation in zip(truth.images, truth.annotations):
        cv2.imwrite(str(root / f'JPEGImages/{image.id}.jpg'),
                    cv2.imread(str(pets / 'images' / image.file_name)))
        x, y, width, height = annotation.bbox
        tree = ElementTree.fromstring(
            f'<annotation><size><width>{image.width}</width><height>{image.height}</height></size><object>'
            f'<name>{truth.categories[annotation.category_id - 1].name}</name><bndbox><xmin>{x + 1}</xmin>'
            f'<ymin>{y + 1}</ymin><xmax>{x + width}</xmax><ymax>{y + height}</ymax></bndbox></object>'
            '</annotation>')
        ElementTree.ElementTree(tree).write(root / f'Annotations/{image.id}.xml')
    for split in ('train', 'val'):
        (root / f'{split}.txt').write_text('\n'.join(str(image.id) for image in truth.images))


def run(call, command, *extra):
    """Call a tool as on the page, with further settings."""
    python, tool, *words = shlex.split(command)
    assert python == 'python' and (ROOT / tool).is_file()
    words += [] if '--cfg-options' in words else ['--cfg-options']
    call(Path(tool).relative_to('tools'), *words, *options_for(Path(words[0]).stem, words), *extra)


def commands(config):
    """The block of commands that trains a config, without further settings, and succeeds."""
    text, = (text for text, failure in COMMANDS
             if failure is None and re.search(rf'[ /]{config}\.py --auto-scale-lr$', text, re.MULTILINE))
    return text.splitlines()


def load(path):
    return torch.load(path, map_location='cpu', weights_only=False)


def test_no_command_of_the_page_is_left_out():
    """Failing commands are run one by one; the tests below run these and ``load_from``."""
    succeed = [text for text, failure in COMMANDS if failure is None]
    named = [commands(config) for config in (
        'deqdet_x50-32x4d_1x_coco', 'narrow', 'pets', 'small_pets', 'voc_pets')]
    # Those that start from another model, check data, get weights or make other data sets have own tests.
    assert len(succeed) == len(named) + 7 and len(COMMANDS) - len(succeed) == 5
    assert sum(language == 'text' for language, _ in BLOCKS) == 5


@pytest.mark.parametrize('text, failure', [pytest.param(text, failure, id=text.split()[-1])
                                           for text, failure in COMMANDS if failure])
def test_what_does_not_fit_is_said_as_the_page_says(call, capsys, checkout, text, failure):
    command, = text.splitlines()
    # Use the usual image size if the message contains it.
    size = [word.replace('64,64', '800,800') for word in SMALL_IMAGES] if '800 pixels' in failure else []
    with pytest.raises(SystemExit) as caught:
        run(call, command, *size)
    assert caught.value.code == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == failure


def test_another_backbone_trains(call, capsys, checkout):
    command, = commands('deqdet_x50-32x4d_1x_coco')
    run(call, command, 'train_cfg.max_epochs=1')
    weights = load(checkout / 'work_dirs/deqdet_x50-32x4d_1x_coco/epoch_1.pth')['state_dict']
    # 32 groups of one channel each.
    assert weights['backbone.layer1.0.conv2.weight'].shape == (32, 1, 3, 3)
    assert 'bbox_mAP' in capsys.readouterr().out


def test_a_backbone_in_an_own_file_trains(call, checkout):
    command, = commands('narrow')
    run(call, command, 'train_cfg.max_epochs=1')
    weights = load(checkout / 'work_dirs/narrow/epoch_1.pth')['state_dict']
    # Half of the 32 channels.
    assert weights['backbone.layers.0.conv.weight'].shape == (16, 3, 3, 3)


@pytest.mark.slow
def test_own_classes_train_and_test(call, capsys, checkout):
    train, test = commands('pets')
    run(call, train, 'train_cfg.val_interval=12', 'default_hooks.checkpoint.interval=12')
    log, = checkout.glob('work_dirs/pets/*/*.log')
    assert 'Scaling the original LR by 0.125' in log.read_text()
    trained = load(checkout / 'work_dirs/pets/epoch_12.pth')
    assert trained['meta']['dataset_meta']['classes'] == ('cat', 'dog')
    assert trained['state_dict']['roi_head.bbox_head.1.fc_cls.weight'].shape == (2, WIDTH)
    run(call, test)
    assert 'bbox_mAP' in capsys.readouterr().out


def test_look_at_the_data(call, capsys, checkout):
    command, = (text.strip() for text, failure in COMMANDS if 'check.py' in text)
    with pytest.raises(SystemExit) as caught:
        run(call, command)
    # The page's two splits have the same four images here. This is the only error.
    assert caught.value.code == 1
    out = capsys.readouterr().out
    assert '4 of 4 images (100 %) are in the training set too' in out and '1 error and no warnings' in out
    assert (checkout / 'work_dirs/pets/check/samples.png').is_file()


def test_start_from_a_coco_model(call, capsys, checkout):
    command, = (text.strip() for text, failure in COMMANDS if 'load_from=' in text)
    donor = Config.fromfile('configs/deqdet/deqdet_r50_1x_coco.py')
    parser = ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    words = ['--cfg-options', *options_for('deqdet_r50_1x_coco')]
    donor.merge_from_dict(parser.parse_args(words).cfg_options)
    torch.save(dict(state_dict=build(donor.model).state_dict(), meta={}), 'deqdet_r50_1x.pth')
    run(call, command, 'train_cfg.max_epochs=1')
    out = capsys.readouterr().out
    loaded, there_are = re.search(r'deqdet_r50_1x\.pth: (\d+) of (\d+) tensors of the model', out).groups()
    # Weight and bias of the classifier in each of two layers.
    assert int(there_are) - int(loaded) == 4
    assert f'fc_cls.weight (80, {WIDTH}) in the file, (2, {WIDTH}) in the model' in out
    before, after = (load(path)['state_dict']['neck.gn_out.weight']
                     for path in ('deqdet_r50_1x.pth', 'work_dirs/pets/epoch_1.pth'))
    # One short step at the start of the warm-up.
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)


def test_settings_of_small_images(call, checkout):
    command, = commands('small_pets')
    run(call, command, 'train_cfg.max_epochs=1')
    trained = load(checkout / 'work_dirs/small_pets/epoch_1.pth')
    assert trained['meta']['iter'] == 1  # four images, eight a batch
    assert trained['state_dict']['rpn_head.init_proposal_features.weight'].shape == (60, WIDTH)
    config = Config.fromfile('small_pets.py')
    assert config.train_dataloader.dataset.pipeline[2] == dict(type='Resize', scale=(96, 96), keep_ratio=True)
    assert config.test_dataloader.dataset.pipeline[1].scale == (96, 96)
    assert config.train_dataloader.dataset.filter_cfg == dict(filter_empty_gt=False, min_size=0)


def test_pascal_voc_format(call, checkout):
    command, = commands('voc_pets')
    run(call, command, 'train_cfg.max_epochs=1')
    path, = checkout.glob('work_dirs/voc_pets/*/*.log')
    log = path.read_text()
    assert 'pascal_voc/mAP' in log
    assert re.search(r'\| cat +\| 2 ', log) and re.search(r'\| dog +\| 2 ', log)


@pytest.mark.slow
def test_configs_that_no_command_trains_learn(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    names = [name for name, text in CONFIGS.items()
             if '_base_' in text and not any(name in text for text, _ in COMMANDS)]
    assert names
    for name in names:
        model = build(few_queries(Config.fromfile(name).model)).train()
        total(losses_of(model, objects=((0, 1), (1, )))).backward()  # all have two classes or more
        without = [parameter for parameter, value in model.named_parameters()
                   if value.requires_grad and value.grad is None]
        assert not without, f'{name}: distributed training would stop'
