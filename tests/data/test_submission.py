"""Detections for COCO's server are checked one by one; an error leaves existing files unchanged."""

import json
import zipfile

import numpy as np
import pytest
import torch
from deqdet import UsageError
from deqdet.data.submission import CocoSubmissionMetric, check_detections, place_submission
from mmdet.registry import METRICS
from mmengine.config import Config
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from refusals import refused
from small_model import ROOT

CATEGORIES = [dict(id=1, name='person'), dict(id=90, name='toothbrush')]


def detection(**changes):
    return {**dict(image_id=7, category_id=90, bbox=[1.5, 2.0, 3.0, 0.0], score=0.25), **changes}


class TestDetections:

    def check(self, *detections):
        return check_detections(detections, [7, 9], [1, 90])

    def test_good(self):
        assert self.check(detection(), detection(score=1), detection(image_id=9, score=0)) == {7: 2, 9: 1}
        assert self.check() == {}

    @pytest.mark.parametrize('change, words', [
        (dict(image_id=8), 'image_id 8'),
        (dict(image_id='7'), "image_id '7'"),
        (dict(image_id=7.0), 'image_id 7.0'),
        (dict(image_id=True), 'image_id True'),
        (dict(category_id=2), 'category_id 2'), (dict(category_id=None), 'category_id None'),
        (dict(bbox=[1, 2, float('nan'), 4]), 'bbox [1, 2, nan, 4] is not four finite'),
        (dict(bbox=[1, float('-inf'), 3, 4]), 'bbox [1, -inf, 3, 4] is not four finite'),
        (dict(bbox=[1, 2, 3]), 'bbox [1, 2, 3] is not four finite'),
        (dict(bbox=[1, 2, 3, -0.5]), 'bbox [1, 2, 3, -0.5] has a negative'),
        (dict(score=1.5), 'score 1.5'), (dict(score=float('nan')), 'score nan'),
        (dict(score='0.5'), 'score 0.5')])
    def test_what_the_server_refuses(self, change, words):
        with refused('output-failed', '1 of 2 detections', 'detection 1 ', words):
            self.check(detection(), detection(**change))

    @pytest.mark.parametrize('key', ['image_id', 'category_id', 'bbox', 'score'])
    def test_a_key_that_is_not_there(self, key):
        entry = detection()
        del entry[key]
        with refused('output-failed', f'{key} None'):
            self.check(entry)


def mask(**changes):
    code = coco_masks.encode(np.asfortranarray(np.eye(4, 6, dtype=np.uint8)))
    return {**dict(size=code['size'], counts=code['counts'].decode()), **changes}


class TestMasks:

    def check(self, *masks):
        entries = [dict(image_id=7, category_id=1, score=0.5, segmentation=each) for each in masks]
        return check_detections(entries, [7, 9], [1, 90], sizes={7: (4, 6), 9: (3, 5)})

    def test_good(self):
        assert self.check(mask(), mask(counts='h0')) == {7: 2}
        assert self.check() == {}

    @pytest.mark.parametrize('wrong, words', [
        (None, 'segmentation None'), ([[0, 0, 4, 0, 4, 4]], 'is not a compressed RLE'),
        (mask(counts=[24]), 'is not a compressed RLE'), (mask(counts='x'), 'cannot be decoded'),
        (mask(counts=mask()['counts'][:-1]), 'cannot be decoded'),
        (mask(size=[6, 4]), '[6, 4] instead of [4, 6]'), (mask(size=[2, 3]), 'instead of 2 * 3')])
    def test_what_the_server_refuses(self, wrong, words):
        with refused('output-failed', '1 of 2 detections', 'detection 1 ', words):
            self.check(mask(), wrong)


@pytest.fixture
def metric(tmp_path):
    """The metric on a list of three images without annotations, like COCO's test-dev."""
    return build_metric(tmp_path)


def build_metric(tmp_path, **settings):
    images = [dict(id=number, file_name=f'{number}.jpg', width=64, height=48) for number in (3, 5, 9)]
    path = tmp_path / 'image_info.json'
    path.write_text(json.dumps(dict(images=images, categories=CATEGORIES)))
    metric = METRICS.build(dict(
        type='CocoSubmissionMetric', ann_file=str(path), name='mine', out_dir=str(tmp_path / 'out'),
        **settings))
    metric.dataset_meta = dict(classes=('person', 'toothbrush'))
    return metric


def result(image, count=2, score=0.5):
    boxes = np.tile(np.float32([4, 8, 20, 40]), (count, 1))
    return dict(height=48, width=64), dict(
        img_id=image, bboxes=boxes, scores=np.full(count, score, np.float32),
        labels=np.arange(count) % 2)


NAME = 'detections_test-dev2017_mine_results'


class TestMetric:

    def test_files(self, metric, tmp_path, log):
        metric.compute_metrics([result(3), result(9), result(5, count=0)])
        assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [f'{NAME}.json', f'{NAME}.zip']
        entries = json.loads((tmp_path / 'out' / f'{NAME}.json').read_text())
        assert entries == [dict(image_id=image, bbox=[4, 8, 16, 32], score=0.5, category_id=category)
                           for image in (3, 9) for category in (1, 90)]
        with zipfile.ZipFile(tmp_path / 'out' / f'{NAME}.zip') as archive:
            assert archive.namelist() == [f'{NAME}.json']
            assert json.loads(archive.read(f'{NAME}.json')) == entries
        line, = [line for line in log if 'COCO submission' in line]
        assert '4 detections on 2 of 3 images' in line
        assert f'{NAME}.json (0.000 MB)' in line and f'{NAME}.zip (0.000 MB)' in line

    def test_a_fault_leaves_what_was_there(self, metric, tmp_path):
        metric.compute_metrics([result(3)])
        before = {path.name: path.read_bytes() for path in (tmp_path / 'out').iterdir()}
        with refused('output-failed', '1 of 2 detections', 'detection 1 (image 9): score nan'):
            metric.compute_metrics([result(3, count=1), result(9, count=1, score=np.nan)])
        assert {path.name: path.read_bytes() for path in (tmp_path / 'out').iterdir()} == before

    def test_a_list_that_was_not_tested_to_its_end(self, metric, log):
        metric.compute_metrics([result(3), result(9)])
        assert [line for line in log if 'only 2 of the 3 images' in line]

    @pytest.mark.parametrize('count, said', [(100, False), (101, True)])
    def test_more_detections_than_are_scored(self, metric, log, count, said):
        metric.compute_metrics([result(3), result(5, count=count), result(9)])
        assert any(f'up to {count} detections' in line and 'max_per_img=100' in line for line in log) == said

    @pytest.mark.parametrize('kinds', [['bbox', 'segm'], 'segm'])
    def test_masks_are_a_file_of_their_own(self, tmp_path, log, kinds):
        metric = build_metric(tmp_path, metric=kinds)
        pixels = np.zeros((2, 48, 64), dtype=bool)
        pixels[0, 10:20, 5:9] = pixels[1, 30:, 40:] = True
        for image in (3, 5, 9):
            found = result(image)[1]
            metric.process({}, [dict(img_id=image, ori_shape=(48, 64), pred_instances=dict(
                masks=torch.from_numpy(pixels), **{
                    key: torch.from_numpy(found[key]) for key in ('bboxes', 'scores', 'labels')}))])
        metric.compute_metrics(metric.results)
        names = [NAME.replace('_results', '_masks_results')] + [NAME] * (len(kinds) == 2)
        assert {path.name for path in (tmp_path / 'out').iterdir()} == {
            f'{name}.{ending}' for name in names for ending in ('json', 'zip')}
        entries = json.loads((tmp_path / 'out' / f'{names[0]}.json').read_text())
        with zipfile.ZipFile(tmp_path / 'out' / f'{names[0]}.zip') as archive:
            assert json.loads(archive.read(f'{names[0]}.json')) == entries
        assert [(each['image_id'], each['category_id'], each['score']) for each in entries] == [
            (image, category, 0.5) for image in (3, 5, 9) for category in (1, 90)]
        assert all(set(each) == {'image_id', 'category_id', 'score', 'segmentation'} for each in entries)
        np.testing.assert_array_equal(coco_masks.decode(entries[1]['segmentation']), pixels[1])
        # pycocotools, which the server uses, takes the area of the mask.
        loaded = COCO(str(tmp_path / 'image_info.json')).loadRes(entries)
        assert [each['area'] for each in loaded.anns.values()] == [40, 18 * 24] * 3
        assert sum('6 detections on 3 of 3 images' in line for line in log) == len(names)

    def test_a_model_without_masks(self, tmp_path):
        found = {key: torch.from_numpy(value) for key, value in result(3)[1].items() if key != 'img_id'}
        with refused('settings-mismatch', "'segm'", 'mask head'):
            build_metric(tmp_path, metric='segm').process(
                {}, [dict(img_id=3, ori_shape=(48, 64), pred_instances=found)])

    @pytest.mark.parametrize('kinds', ['proposal', [], ['bbox', 'mask']])
    def test_files_that_do_not_exist(self, tmp_path, kinds):
        with refused('bad-setting', f'test_evaluator.metric={kinds!r}', "'segm'"):
            build_metric(tmp_path, metric=kinds)

    @pytest.mark.parametrize('name', ['', 'my model', '../mine', 'a\\b'])
    def test_a_name_that_is_no_part_of_a_file_name(self, tmp_path, name):
        with refused('bad-setting', f'test_evaluator.name={name!r}'):
            CocoSubmissionMetric(ann_file='list.json', name=name, out_dir=str(tmp_path))

    def test_a_folder_that_cannot_be_written_is_found_before_the_test(self, tmp_path):
        (tmp_path / 'file').write_text('')
        with pytest.raises(UsageError, match=str(tmp_path / 'file' / 'out')):
            CocoSubmissionMetric(ann_file='list.json', name='mine', out_dir=str(tmp_path / 'file' / 'out'))


class TestConfig:

    @pytest.mark.parametrize('name, masks', [
        ('r50_p64-32_1x', ''), ('r50_1x', ''), ('r50_2x', ''), ('r101_2x', ''), ('r50_2x', '_mask-local'),
        ('r50_2x', '_mask-global')])
    def test_only_data_and_evaluator_differ(self, name, masks):
        folder = ROOT / 'configs' / 'deqdet'
        ours = Config.fromfile(str(folder / 'test-dev' / f'deqdet_{name}{masks}_test-dev.py'))
        base = Config.fromfile(str(folder / f'deqdet_{name}_coco{masks}.py'))
        base.test_dataloader.dataset.update(
            ann_file='annotations/image_info_test-dev2017.json', data_prefix=dict(img='test2017/'))
        assert ours.test_evaluator == dict(
            type='CocoSubmissionMetric', name=f'deqdet_{name}{masks}',
            ann_file='data/coco/annotations/image_info_test-dev2017.json',
            **(dict(metric=['bbox', 'segm']) if masks else {}))
        for key in set(base) - {'test_evaluator'}:
            assert ours[key] == base[key], key

    def test_work_dir_and_name_of_the_config_where_it_is_silent(self, tmp_path):
        path = tmp_path / 'my_model.py'
        path.write_text("work_dir = 'work'\ntest_evaluator = [dict(type='mmdet.CocoSubmissionMetric'), "
                        "dict(type='CocoMetric'), dict(type='CocoSubmissionMetric', name='n', out_dir='o')]")
        cfg = Config.fromfile(str(path))
        place_submission(cfg)
        first, other, second = cfg.test_evaluator
        assert (first.name, first.out_dir) == ('my_model', 'work')
        assert other == dict(type='CocoMetric')
        assert (second.name, second.out_dir) == ('n', 'o')
