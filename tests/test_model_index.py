"""The model index is complete, installed, and agrees with configs, README and documentation."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from small_model import ROOT
from test_configs import build

INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text(encoding='utf-8'))
MODELS = [model for path in INDEX['Import']
          for model in yaml.safe_load((ROOT / path).read_text(encoding='utf-8'))['Models']]
NAMES = [model['Name'] for model in MODELS]


def load(path, root=ROOT):
    return Config.fromfile(str(root / path))


def rows(page, pattern):
    """Cells of a page's table rows whose first cell matches."""
    cells = [[cell.strip() for cell in line.strip('|').split('|')]
             for line in (ROOT / page).read_text(encoding='utf-8').splitlines() if line.startswith('|')]
    return [row for row in cells if re.fullmatch(pattern, row[0])]


def files(folder, pattern):
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).glob(pattern))


def metrics(model):
    result, = model['Results']
    assert (result['Task'], result['Dataset']) == ('Object Detection', 'COCO')
    return result['Metrics']


def test_every_coco_config_is_named_once():
    """Not included: ablations, examples, digits, nuclei and trees; they have no published results."""
    there = files('configs/deqdet', '*_coco*.py') + files('configs/sparse_rcnn', '*_coco*.py')
    assert sorted(model['Config'] for model in MODELS) == sorted(there)
    assert NAMES == [Path(model['Config']).stem for model in MODELS]


def test_every_published_name_is_named_once():
    named = {model['Metadata']['Published Config']: model['Config'] for model in MODELS
             if 'Published Config' in model['Metadata']}
    assert sorted(named) == files('projects/configs', '*.py')
    for published, config in named.items():
        assert load(published).to_dict() == load(config).to_dict()


@pytest.mark.parametrize('model', MODELS, ids=NAMES)
def test_metadata_is_that_of_the_config(model):
    config, metadata = load(model['Config']), model['Metadata']
    assert metadata['Epochs'] == config.train_cfg.max_epochs
    assert metadata['Queries'] == config.model.rpn_head.num_proposals
    assert metadata['Training Data'] == 'COCO' and config.train_dataloader.dataset.type == 'CocoDataset'
    parameters = sum(parameter.numel() for parameter in build(ROOT / model['Config']).parameters())
    assert metadata['Parameters (M)'] == round(parameters / 1e6, 1)


@pytest.mark.parametrize('model', MODELS, ids=NAMES)
def test_collection_is_that_of_the_head(model):
    collections = {
        'DEQDetRoIHead': 'DEQDet', 'FFNDetRoIHead': 'Stacked decoder (AdaMixer)',
        'DEQ_SparseRoIHead': 'DEQ Sparse R-CNN', 'SparseRoIHead': 'Sparse R-CNN'}
    assert [collection['Name'] for collection in INDEX['Collections']] == list(collections.values())
    head = load(model['Config']).model.roi_head.type
    assert model['In Collection'] == collections[head]


def test_collections_point_to_papers_and_the_readme():
    for collection in INDEX['Collections']:
        assert re.fullmatch(r'https://arxiv\.org/abs/\d{4}\.\d{5}', collection['Paper']['URL'])
        assert collection['Paper']['Title'] and (ROOT / collection['README']).is_file()


@pytest.mark.parametrize('page', ['README.md', 'docs/results.md'])
def test_results_of_deqdet_are_those_of_the_page(page):
    expected = {}
    for name, *values in rows(page, r'.+ queries \(paper\)'):
        backbone, schedule, queries = re.fullmatch(r'(\S+), (\dx), (\d+) queries \(paper\)', name).groups()
        backbone = backbone.replace('-', '').lower()
        expected[f'deqdet_{backbone}_{schedule}_coco'] = (int(queries), *map(float, values))
    found = {model['Name']: (model['Metadata']['Queries'], *metrics(model).values())
             for model in MODELS if model['In Collection'] == 'DEQDet' and 'Results' in model}
    assert found == expected and len(found) == 4


def test_results_of_sparse_rcnn_are_those_of_the_page():
    expected, pattern = {}, r'`configs/sparse_rcnn/\w+_coco\.py`'
    for name, _, parameters, schedule, ap in rows('docs/sparse_rcnn.md', pattern):
        expected[name.strip('`')] = (float(parameters.split()[0]), int(schedule.split()[0]), float(ap))
    found = {model['Config']: (model['Metadata']['Parameters (M)'], model['Metadata']['Epochs'],
                               metrics(model)['box AP'])
             for model in MODELS if 'Sparse R-CNN' in model['In Collection'] and 'Results' in model}
    assert found == expected and len(found) == 3


def test_results_say_where_they_are_from_and_weights_are_not_invented():
    for model in MODELS:
        metadata = model['Metadata']
        assert ('Results' in model) == ('Results Reported In' in metadata)
        assert 'Weights' not in model
        if 'Released File' in metadata:
            assert metadata['Released File'] == model['Name'].replace('_coco', '*.pth')
    released = {model['Name'] for model in MODELS if 'Released File' in model['Metadata']}
    assert released == {f'deqdet_{name}_coco' for name in ('r50_1x', 'r50_2x', 'r101_2x', 'swins_2x')}


@pytest.mark.slow
def test_a_wheel_has_index_and_configs(tmp_path):
    subprocess.run(
        [sys.executable, 'setup.py', '-q', 'build', '--build-base', str(tmp_path)], cwd=ROOT, check=True,
        capture_output=True, timeout=120)
    installed = tmp_path / 'lib/deqdet'
    assert (installed / 'model/heads/deq.py').is_file()
    assert (installed / '.mim/model-index.yml').read_bytes() == (ROOT / 'model-index.yml').read_bytes()
    for path in INDEX['Import'] + [collection['README'] for collection in INDEX['Collections']]:
        assert (installed / '.mim' / path).is_file()
    for model in MODELS:
        for path in {model['Config'], model['Metadata'].get('Published Config', model['Config'])}:
            assert load(path, installed / '.mim').to_dict() == load(path).to_dict()
