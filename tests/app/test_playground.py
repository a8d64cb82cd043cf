"""The page's computations agree with the detector; bad input is reported."""

import argparse
import json
import sys
import threading

import numpy as np
import pytest
import torch
from deqdet import UsageError, app
from deqdet.app.showing import curve_of
from deqdet.app.visit import Settings, show
from deqdet.equilibrium import SOLVERS
from mmengine.config import Config
from PIL import Image
from pycocotools.coco import COCO
from refusals import refused
from shown import pixels
from small_model import ROOT, build, small_sparse_config

SETTINGS = Settings(solver='iterate', refinements=3, score=0.3, stops=False, content=0.05, position=0.5)


def assert_same(found, expected):
    assert len(found) == len(expected) > 0
    for key in ('scores', 'labels', 'bboxes'):
        torch.testing.assert_close(found[key], expected[key], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('solver', SOLVERS)
def test_the_slider_shows_what_a_prediction_with_so_many_steps_gives(playground, image, predicted, solver):
    path = image()
    solution = playground.solve(path, solver)
    for k in range(1, 7):
        expected = predicted(
            playground, path, 0.3, refinement_steps=k - 1, solver=dict(type=solver))
        assert_same(solution.detections(k, 0.3), expected)
    moved = [solution.detections(k, 0.3).bboxes[:5] for k in (1, 6)]
    assert (moved[0] - moved[1]).abs().max() > 1


def test_no_more_is_shown_than_a_prediction_gives(playground, image, monkeypatch, predicted):
    head = playground.model.roi_head
    monkeypatch.setattr(head, 'prediction', head.prediction_with(max_per_img=4))
    path = image()
    solution = playground.solve(path, 'iterate')
    expected = predicted(playground, path, 0.05, refinement_steps=1)
    assert_same(solution.detections(2, 0.05), expected)
    assert len(expected) == 4


def test_no_score_is_shown_that_a_prediction_leaves_out(playground, image, monkeypatch, predicted):
    path = image()
    everything = predicted(playground, path, 0.05, refinement_steps=1)
    middle = everything.scores[len(everything) // 2].item()
    head = playground.model.roi_head
    monkeypatch.setattr(head, 'prediction', head.prediction_with(score_thr=middle))
    expected = predicted(playground, path, 0.05, refinement_steps=1)
    assert len(expected) < len(everything)
    assert_same(playground.solve(path, 'iterate').detections(2, 0.05), expected)


def test_the_other_decoder(image, monkeypatch, predicted):
    """In DEQ Sparse R-CNN, k refinements are k + 1 stages."""
    cfg = Config.fromfile(str(ROOT / 'configs' / 'sparse_rcnn' / 'deq_sparse_rcnn_digits.py'))
    model = build(small_sparse_config()).eval()
    with torch.no_grad():
        for head in model.roi_head.bbox_head:
            head.fc_reg.weight.normal_(std=0.05)
    playground = app.Playground(model, cfg, [str(digit) for digit in range(10)], refinements=4)
    monkeypatch.setattr('deqdet.app.solving.LEAST_SCORE', 0.0)  # random weights give low scores
    path = image()
    solution = playground.solve(path, 'iterate')
    for k in (0, 1, 4):
        assert solution.settings[k] == f'num_stages={k + 1}'
        expected = predicted(playground, path, 0.0, num_stages=k + 1)
        assert_same(solution.detections(k, 0.0), expected)


def test_the_slider_begins_where_the_config_predicts(playground, monkeypatch):
    head = playground.model.roi_head
    assert playground.predicted == 3 + 1
    # A config without steps uses those of the training, here more than the slider has.
    monkeypatch.setattr(head, 'prediction', head.prediction_of(dict(max_per_img=20)))
    assert head.prediction.refinements == head.refinement_steps + 1 > playground.predicted == 6


@pytest.mark.parametrize('part', ['content', 'position'])
@pytest.mark.parametrize('solver', SOLVERS)
def test_a_tolerance_ends_where_the_prediction_ends(playground, image, predicted, solver, part):
    path = image()
    solution = playground.solve(path, solver)
    lengths = solution.image.residuals[part]
    limits = {part: float(sorted(lengths)[2]) * 1.001}
    stop = app.stop_of(solution, limits)
    first = int(np.flatnonzero(lengths <= limits[part])[0])  # step first + 1
    if first == 5:  # the last step; the final refinement would be the seventh
        assert stop is None
        return
    assert stop == first + 2
    expected = predicted(playground, path, 0.3, refinement_steps=5, solver=dict(type=solver),
                         tolerance=limits)
    assert_same(solution.detections(stop, 0.3), expected)


def test_a_tolerance_of_both_parts_waits_for_the_later_one(playground, image):
    solution = playground.solve(image(), 'iterate')
    content, position = (solution.image.residuals[part] for part in ('content', 'position'))
    assert app.stop_of(solution, dict(content=content.max(), position=position.max())) == 2
    assert app.stop_of(solution, dict(content=content.max(), position=position[:-1].min())) \
        == int(position[:-1].argmin()) + 2
    assert app.stop_of(solution, dict(content=content.max(), position=0.0)) is None
    assert app.stop_of(solution, {}) is None


def test_results_are_coco_in_pixels_of_the_image(playground, image, tmp_path, predicted):
    path = image(width=80, height=40)
    solution = playground.solve(path, 'iterate')
    app.write_results(tmp_path / 'results.json', solution, 4, 0.3)
    results = json.loads((tmp_path / 'results.json').read_text())
    expected = predicted(playground, path, 0.3, refinement_steps=3)
    boxes = torch.tensor([each['bbox'] for each in results['annotations']])
    torch.testing.assert_close(boxes[:, :2], expected.bboxes[:, :2])
    torch.testing.assert_close(boxes[:, 2:], expected.bboxes[:, 2:] - expected.bboxes[:, :2])
    assert results['images'] == [
        dict(id=1, file_name='image.png', width=80, height=40, path='image.png')]
    assert [each['category_id'] for each in results['annotations']] == (expected.labels + 1).tolist()
    assert [each['name'] for each in results['categories']] == list(playground.classes)
    # pycocotools reads them as annotations and as results.
    coco = COCO()
    coco.dataset = results
    coco.createIndex()
    assert len(coco.loadRes(results['annotations']).anns) == len(coco.anns) == len(expected)


@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'RGBA', 'I;16', 'CMYK'])
def test_images_of_other_modes(playground, tmp_path, mode):
    ramp = np.tile(np.linspace(0, 255, 64), (48, 1)).astype(np.uint8)
    grey = Image.fromarray(ramp)
    other = Image.fromarray(ramp.astype(np.uint16) * 257) if mode == 'I;16' else (
        grey if mode == 'L' else grey.convert('RGB').convert(mode, palette=Image.Palette.ADAPTIVE))
    assert other.mode == mode
    path = tmp_path / ('image.jpg' if mode == 'CMYK' else 'image.png')
    other.save(path)
    solution = playground.solve(str(path), 'iterate')
    picture = solution.image.picture
    assert picture.shape == (48, 64, 3)
    if mode != '1':
        assert np.abs(picture.astype(int) - ramp[..., None]).mean() < 8
    assert len(solution.detections(6, 0.05))


def test_an_image_is_turned_as_its_camera_says(playground, tmp_path, image):
    exif = Image.Exif()
    exif[274] = 6  # rotated by 90 degrees
    with Image.open(image()) as upright:
        upright.save(tmp_path / 'turned.png', exif=exif)
        upright.transpose(Image.Transpose.ROTATE_270).save(tmp_path / 'expected.png')
    turned, expected = (playground.solve(str(tmp_path / f'{name}.png'), 'iterate')
                        for name in ('turned', 'expected'))
    assert turned.image.picture.shape == (64, 48, 3)
    assert_same(turned.detections(6, 0.3), expected.detections(6, 0.3))


@pytest.mark.parametrize('size', [(1, 1), (1, 400), (400, 1), (3, 5)])
def test_images_of_odd_sizes_are_shown(playground, image, tmp_path, size):
    width, height = size
    shown = show(playground, tmp_path, None, image(width=width, height=height), SETTINGS)
    assert f'({width} x {height})' in shown.status and 'Error' not in shown.status
    with Image.open(shown.files.picture) as picture:
        assert picture.width >= 360 and picture.height > 30


def test_what_was_solved_is_not_solved_again(playground, image, tmp_path):
    first = show(playground, tmp_path, None, image(), SETTINGS)
    moved = show(playground, tmp_path, first.visit, image(), SETTINGS._replace(refinements=1, score=0.5))
    assert moved.visit.solutions['iterate'] is first.visit.solutions['iterate']
    other = show(playground, tmp_path, moved.visit, image(), SETTINGS._replace(solver='anderson'))
    assert set(other.visit.solutions) == set(SOLVERS)
    assert other.visit.solutions['iterate'] is first.visit.solutions['iterate']
    fresh = show(playground, tmp_path, other.visit, image('other.png', seed=1), SETTINGS)
    assert fresh.visit.solutions['iterate'].name == 'other.png'
    # Other visitors' images stay.
    assert first.visit.solutions['iterate'].name == 'image.png'


def test_the_tolerance_moves_the_slider(playground, image, tmp_path):
    solution = playground.solve(image(), 'iterate')
    limit = float(np.sort(solution.image.residuals['position'][:-1])[2])
    settings = SETTINGS._replace(stops=True, content=None, position=limit, refinements=6)
    stop = app.stop_of(solution, dict(position=limit))
    assert show(playground, tmp_path, None, image(), settings, jump=True).refinements == stop < 6
    stays = show(playground, tmp_path, None, image(), settings)
    assert stays.refinements == 6 and f'**{stop} refinements**' in stays.status
    never = show(playground, tmp_path, None, image(), settings._replace(position=0), jump=True)
    assert never.refinements == 6 and 'not reached within 6' in never.status


def test_the_curve_marks_where_the_slider_is(playground, image):
    solution = playground.solve(image(), 'iterate')
    curves = [pixels(curve_of(solution, k, {})) for k in (0, 2, 5)]
    columns = [np.flatnonzero((curve == 0).all(-1)[120:200].all(0)) for curve in curves]
    marks = [set(found) - set(columns[0]) for found in columns[1:]]
    assert marks[0] and marks[1] and max(marks[0]) < min(marks[1])


def test_visitors_at_the_same_time_get_their_own(playground, image):
    paths = [image(f'{seed}.png', seed=seed) for seed in range(4)]
    expected = [playground.solve(path, 'iterate') for path in paths]
    found = {}

    def solve(path):
        found[path] = playground.solve(path, 'iterate')

    threads = [threading.Thread(target=solve, args=(path, )) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for path, each in zip(paths, expected):
        assert_same(found[path].detections(6, 0.3), each.detections(6, 0.3))


def test_bad_input_is_one_line(playground, image, tmp_path):
    def said(path, **settings):
        shown = show(playground, tmp_path, None, path, SETTINGS._replace(**settings))
        assert shown.files is None and '\n' not in shown.status and str(tmp_path) not in shown.status
        return shown.status

    broken, empty, large = (tmp_path / f'{name}.png' for name in ('broken', 'empty', 'large'))
    broken.write_bytes(b'\x89PNG\r\n\x1a\n' + b'no image' * 20)
    empty.touch()
    Image.new('1', (8000, 5001)).save(large)
    assert 'No image yet' in said(None)
    assert 'broken.png ' in said(str(broken)) and 'empty.png ' in said(str(empty))
    assert 'large.png ' in said(str(large)) and '40 million pixels' in said(str(large))
    assert 'server' in said(str(tmp_path / 'gone.png'))
    assert 'no limit' in said(image(), stops=True, content=None, position=None)
    assert 'content=-1 ' in said(image(), stops=True, content=-1)
    assert 'position=-0.5 ' in said(image(), stops=True, position=-0.5)
    assert 'refinements is empty' in said(image(), refinements=None)
    assert 'score is empty' in said(image(), score=None)


def test_a_stacked_decoder_is_refused(arguments):
    config = ROOT / 'configs' / 'deqdet' / 'ffndet_r50_1x_coco.py'
    with refused('unsupported-decoder', config, 'FFNDetRoIHead', 'DEQDetRoIHead'):
        app.load_model(argparse.Namespace(**{**vars(arguments), 'config': str(config)}))


def test_a_device_that_is_not_there(arguments):
    with pytest.raises(UsageError, match="device 'nowhere' cannot be used"):
        app.load_model(argparse.Namespace(**{**vars(arguments), 'device': 'nowhere'}))


def test_the_tool_without_gradio(refused, detector, monkeypatch):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    monkeypatch.delitem(sys.modules, 'deqdet.app.page', raising=False)
    monkeypatch.delattr(app, 'page', raising=False)
    line = refused('app.py', detector.config, detector.weights)
    assert "pip install 'deqdet[app]'" in line and line.endswith(' [missing-package]')


def test_options_of_the_tool(refused, detector, tmp_path):
    files = detector.config, detector.weights
    (tmp_path / 'empty').mkdir()
    for words, told, code in [
            (('--max-steps', 0), '--max-steps 0', 'bad-argument'),
            (('--port', 70000), '--port 70000', 'bad-argument'),
            (('--examples', 'nothing'), '--examples nothing', 'missing-file'),
            (('--examples', 'empty'), '--examples empty', 'bad-argument')]:
        line = refused('app.py', *files, *words)
        assert told in line and line.endswith(f' [{code}]')
