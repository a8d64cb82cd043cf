"""The pictures of a refinement, from the tool, checked by their content."""

import cv2
import numpy as np
import pytest
import torch
from deqdet import analysis
from deqdet.compat.checkpoint_loading import safe_checkpoint_loading
from deqdet.model.sampling import FeaturePyramid
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config
from PIL import Image
from refusals import refused, says
from small_model import ROOT

# The network sees the images of 96 x 96 resized to 128 x 64.
RESIZED = '''
_base_ = {base!r}
pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(128, 64), keep_ratio=False),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
test_dataloader = dict(dataset=dict(pipeline=pipeline))
'''
SPARSE = '''
_base_ = {base!r}
model = dict(backbone=dict(base_channels=4, stem_channels=4), neck=dict(in_channels=[4, 8, 16, 32]))
test_dataloader = dict(dataset=dict(data_root={data!r}))
test_evaluator = dict(_delete_=True, type='MeanDetection')
'''


@pytest.fixture
def resized(folder, tmp_path):
    """The small detector with a config that resizes images."""
    path = tmp_path / 'resized.py'
    path.write_text(RESIZED.format(base=str(folder / 'small.py')))
    return path


@pytest.fixture
def detector(folder, resized):
    with safe_checkpoint_loading():
        return init_detector(str(resized), str(folder / 'model.pth'), device='cpu')


@pytest.fixture
def picture(folder):
    return sorted((folder / 'data' / 'val').iterdir())[0]


def followed(detector, path, refinements):
    return analysis.follow_image(detector, path, cfg=detector.cfg, classes=detector.cfg.metainfo.classes,
                                 refinements=refinements)


def record_samples(monkeypatch):
    """Record the sampling points from now on, one entry per application of a layer."""
    asked = []
    sample = FeaturePyramid.sample
    monkeypatch.setattr(FeaturePyramid, 'sample',
                        lambda self, points: asked.append(points) or sample(self, points))
    return asked


@pytest.mark.parametrize('solver', [dict(type='iterate'), dict(type='anderson', memory=3)],
                         ids=lambda solver: solver['type'])
def test_points_and_boxes_are_those_of_a_real_prediction(detector, picture, monkeypatch, solver):
    """Compares with the detector's own forward: g, then 4 + 1 refinements."""
    head = detector.roi_head
    head.prediction = head.prediction_with(refinement_steps=4, solver=solver, max_per_img=100)
    image = followed(detector, picture, 5)
    asked = record_samples(monkeypatch)
    expected = inference_detector(detector, str(picture)).pred_instances

    assert len(asked) == 1 + 5 and len(image.points) == 5
    scale = torch.tensor([128 / 96, 64 / 96, 1])
    for points, sampled in zip(image.points, asked[1:]):
        assert points.shape == sampled.shape[1:]
        torch.testing.assert_close(torch.from_numpy(points).float() * scale, sampled[0], rtol=1e-5, atol=1e-3)
    moved = np.abs(image.points[-1] - image.points[0])
    assert moved[..., :2].max() > 1 and moved[..., 2].max() > 0.01

    # `image` has all queries and classes, the prediction only the best hundred.
    last = image.detections[-1]
    order = last.scores.argsort(descending=True)[:100]
    torch.testing.assert_close(last.scores[order], expected.scores)
    torch.testing.assert_close(last.bboxes[order], expected.bboxes)
    assert torch.equal(last.labels[order], expected.labels)


def test_boxes_are_in_pixels_of_the_original_image(detector, picture, monkeypatch):
    asked = record_samples(monkeypatch)
    image = followed(detector, picture, 2)
    assert image.picture.shape == (96, 96, 3) and image.resized
    np.testing.assert_array_equal(image.picture, cv2.imread(str(picture))[..., ::-1])
    first = asked[0]  # of g, which starts from the whole image at the network's size
    assert first[..., 0].max() < 1.5 * 128 and first[..., 1].max() < 1.5 * 64
    assert len(image.detections) == 3
    for found, box in zip(image.detections, image.asked):
        for query in range(len(box)):
            torch.testing.assert_close(found.bboxes[found.queries == query][0],
                                       torch.from_numpy(box[query]).float(), rtol=1e-5, atol=1e-3)
    # Both centres of a query agree after scaling by the factors of the resizing.
    centre = image.points[0][..., :2].mean((1, 2))
    box = (image.asked[0][:, :2] + image.asked[0][:, 2:]) / 2
    size = image.asked[0][:, 2:] - image.asked[0][:, :2]
    assert (np.abs(centre - box) < 0.5 * size).all()


def test_what_is_drawn(detector, picture):
    """One rectangle and one label per query, at its box; nothing else is drawn."""
    image = followed(detector, picture, 3)
    scores = torch.stack([image.detections[2].scores[image.detections[2].queries == query].max()
                          for query in range(8)])
    limit = float(scores.sort().values[4:6].mean())  # three of the eight are above
    axes = Figure().add_subplot()
    analysis.draw_boxes(axes, image, 2, score=limit, font=8)
    found = image.detections[2]
    solid = {patch.get_edgecolor()[:3]: patch for patch in axes.patches if patch.get_linestyle() == '-'}
    assert len(solid) == 3 == len(axes.texts)
    drawn = sorted(patch.get_bbox().extents.tolist() for patch in solid.values())
    expected = sorted(found.bboxes[found.queries == query][0].tolist()
                      for query in (scores > limit).nonzero())
    np.testing.assert_allclose(drawn, expected, rtol=1e-4)
    for text in axes.texts:
        box = solid[to_rgb(text.get_bbox_patch().get_facecolor())].get_bbox().extents
        query = next(query for query in range(8) if np.allclose(
            found.bboxes[found.queries == query][0], box, rtol=1e-4))
        each = found[(found.queries == query) & (found.scores > limit)]
        lines = [f'{label} {score:.2f}' for label, score in zip(each.labels.tolist(), each.scores.tolist())]
        assert text.get_text() == '\n'.join(lines)


def test_a_label_has_few_lines(detector, picture):
    image = followed(detector, picture, 1)
    axes = Figure().add_subplot()
    analysis.draw_boxes(axes, image, 1, score=0.0, font=8)  # every class of every query
    assert len(axes.texts) == len(axes.patches) == 8
    for text in axes.texts:
        *lines, rest = text.get_text().splitlines()
        assert len(lines) == 3 and rest == 'and 7 more'


def test_a_query_keeps_its_colour_and_is_dashed_before_its_score_is_there(detector, picture):
    image = followed(detector, picture, 3)
    best, = image.best_queries(1)
    last = image.detections[-1]
    last.scores[(last.queries == best).nonzero()[0]] = 0.9  # random weights give low scores
    colours = set()
    for k in range(4):
        axes = Figure().add_subplot()
        analysis.draw_boxes(axes, image, k, score=0.5, font=8)
        patch, = axes.patches
        assert (patch.get_linestyle(), len(axes.texts)) == (('--', 0) if k < 3 else ('-', 1))
        colours.add(patch.get_edgecolor())
        box = image.detections[k].bboxes[image.detections[k].queries == best][0]
        np.testing.assert_allclose(patch.get_bbox().extents, box, rtol=1e-4)
    assert len(colours) == 1


def test_points_are_drawn_where_they_are(detector, picture):
    image = followed(detector, picture, 2)
    for points in image.points:  # with random weights all are beyond the largest scale
        points[..., 2] = np.linspace(1.5, 5.5, points[..., 2].size).reshape(points.shape[:-1])
    queries = image.best_queries(2)
    figure = analysis.point_strip(image, [1, 2], queries)
    assert [axes.get_title().split(' (')[0] for axes in figure.axes] == [
        'points of refinement 1', 'points of refinement 2']
    for axes, points, boxes in zip(figure.axes, image.points, image.asked):
        assert len(axes.collections) == 2 and len(axes.patches) == 2
        for drawn, patch, query in zip(axes.collections, axes.patches, reversed(queries)):
            expected = points[query].reshape(-1, 3)
            np.testing.assert_allclose(drawn.get_offsets(), expected[:, :2])
            order = np.argsort(expected[:, 2])
            assert (np.diff(drawn.get_sizes()[order]) > 0).all()
            np.testing.assert_allclose(patch.get_bbox().extents, boxes[query], rtol=1e-4)


@pytest.mark.parametrize('size, frame', [((96, 60), (480, 300)), ((600, 500), (600, 500)),
                                         ((2000, 1000), (800, 400))])
def test_small_pictures_are_enlarged_and_large_ones_reduced(detector, picture, tmp_path, size, frame):
    image = Image.open(picture).resize(size)
    image.save(tmp_path / 'other.png')
    image = followed(detector, tmp_path / 'other.png', 1)
    for figure in (analysis.box_frame(image, k, score=0.5) for k in range(2)):
        axes, = figure.axes
        extent = axes.get_window_extent()
        assert (extent.width, extent.height) == pytest.approx(frame, abs=1)


@pytest.fixture
def pictures(call, folder, resized, tmp_path):
    """Call the tool; returns its results folder."""

    def pictures(*words):
        call('analysis/refinement.py', resized, folder / 'model.pth', *words, '--out', tmp_path / 'out')
        return tmp_path / 'out'

    return pictures


def test_the_tool(pictures, folder, capsys):
    """Without an image, the tool takes one of the test data. Random weights give low scores only."""
    out = pictures('--index', 1, '--refinements', 4, '--score', 0.001, '--strip', 0, 4)
    stem = sorted((folder / 'data' / 'val').iterdir())[1].stem
    assert sorted(path.name for path in out.iterdir()) == [
        f'refinement_{stem}.gif', f'refinement_{stem}_points.png', f'refinement_{stem}_strip.png']
    gif = Image.open(out / f'refinement_{stem}.gif')
    assert gif.n_frames == 4 + 1 and gif.info['loop'] == 0
    frames, times = [], []
    for k in range(gif.n_frames):
        gif.seek(k)
        frames.append(np.asarray(gif.convert('RGB')).astype(int))
        times.append(gif.info['duration'])
    assert times[:-1] == [500] * 4 and times[-1] > 1000
    assert frames[0].shape == (510, 480, 3)
    boxes = [np.abs(frame[30:] - frames[0][30:]).max() for frame in frames[1:]]
    assert min(boxes) > 50  # pixels below the title: boxes moved
    assert 'written: ' in capsys.readouterr().out


def test_image_files_need_no_test_data(pictures, picture, tmp_path, capsys):
    """Images of other kinds and sizes; two have the same name."""
    content = cv2.imread(str(picture))
    (tmp_path / 'other').mkdir()
    cv2.imwrite(str(tmp_path / 'photo.jpg'), cv2.resize(content, (150, 40)))
    cv2.imwrite(str(tmp_path / 'grey.v2.png'), content[..., 0])
    cv2.imwrite(str(tmp_path / 'other' / 'photo.png'), np.dstack([content, content[..., :1]]))
    out = pictures('--refinements', 2, 'photo.jpg', 'grey.v2.png', 'other/photo.png', '--cfg-options',
                   'test_dataloader.dataset.data_root=nowhere/', '--once')
    assert {path.name for path in out.glob('*.gif')} == {
        'refinement_photo.gif', 'refinement_grey_v2.gif', 'refinement_photo~2.gif'}
    assert len(list(out.glob('*_points.png'))) == len(list(out.glob('*_strip.png'))) == 3
    assert 'loop' not in Image.open(out / 'refinement_photo.gif').info
    assert capsys.readouterr().out.count('no box has a score above 0.3') == 3


@pytest.mark.parametrize('words, message', [
    (['gone.png'], 'image gone.png ... (No such file or directory) ... [bad-image]'),
    (['.'], 'image . ... (Is a directory) ... [bad-image]'),
    (['empty.png'], 'image empty.png cannot be decoded ... [bad-image]'),
    (['resized.py'], 'image resized.py cannot be decoded ... [bad-image]'),
    (['--index', 5], '--index 5: ... 0 to 4 ... [bad-argument]'),
    (['--refinements', 0], '--refinements 0: ... [bad-argument]'),
    (['--refinements', 3, '--strip', 0, 4], '--strip 4: ... --refinements 3 ... [bad-argument]'),
    (['--score', 1], '--score 1: ... [bad-argument]'), (['--queries', 0], '--queries 0: ... [bad-argument]'),
], ids=str)
def test_one_line_says_what_is_wrong(refused, folder, resized, tmp_path, words, message):
    (tmp_path / 'empty.png').touch()
    line = refused('analysis/refinement.py', resized.name, folder / 'model.pth', *words)
    assert says(line, message)


def test_classes_of_another_model(refused, folder, resized, picture):
    line = refused('analysis/refinement.py', resized.name, folder / 'model.pth', picture, '--cfg-options',
                   'test_dataloader.dataset.metainfo.classes=a,b')
    assert 'num_classes is 10, but the test dataset has 2 classes' in line


def test_a_decoder_without_sampling_points(call, folder, tmp_path, capsys):
    from mmdet.registry import MODELS
    config = tmp_path / 'sparse.py'
    config.write_text(SPARSE.format(
        base=str(ROOT / 'configs' / 'sparse_rcnn' / 'deq_sparse_rcnn_digits.py'), data=f'{folder}/data/'))
    model = MODELS.build(Config.fromfile(str(config)).model)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'sparse.pth')
    call('analysis/refinement.py', config, tmp_path / 'sparse.pth', '--refinements', 2, '--out', 'out')
    assert Image.open(next(tmp_path.glob('out/*.gif'))).n_frames == 3
    assert not list(tmp_path.glob('out/*points*')) and len(list(tmp_path.glob('out/*'))) == 2
    assert 'DEQ_SparseRoIHead' in capsys.readouterr().out


def test_reading_says_which_image(detector, tmp_path):
    (tmp_path / 'half.png').write_bytes(b'\x89PNG\r\n\x1a\n')
    with refused('bad-image', 'half.png'):
        analysis.read_image(detector.cfg, tmp_path / 'half.png')
