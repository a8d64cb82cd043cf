"""Detection in Python: images of any kind, settings of one call, and refused input."""

import os

import cv2
import numpy as np
import pytest
import torch
from deqdet import DEQDetInferencer, UsageError
from deqdet.images import fonts
from detecting import picture, write_pictures
from exported import detector
from mmengine.config import Config
from PIL import Image
from refusals import refused
from small_model import ROOT

EXIF_ORIENTATION = 0x0112


def boxes_of(results, number=0):
    return np.array(results['predictions'][number]['bboxes'])


def scores_of(results, number=0):
    return np.array(results['predictions'][number]['scores'])


def test_one_line_gives_detections_and_a_picture(files, tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), picture())
    results = DEQDetInferencer(*files)(tmp_path / 'a.png', out_dir=tmp_path / 'out', pred_score_thr=0)
    found, = results['predictions']
    assert len(found['labels']) == len(found['scores']) == len(found['bboxes']) == 12
    assert results['inputs'] == [str(tmp_path / 'a.png')] and results['broken'] == []
    drawn = cv2.imread(str(tmp_path / 'out' / 'vis' / 'a.png'))
    assert drawn.shape == (70, 90, 3) and (drawn != picture()).any()


def test_an_array_is_bgr_as_a_file_is_read(inferencer, tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), picture())
    of_file = inferencer(str(tmp_path / 'a.png'), return_vis=True, pred_score_thr=0)
    of_array = inferencer(picture(), return_vis=True, pred_score_thr=0)
    assert of_file['predictions'] == of_array['predictions'] and of_array['inputs'] == [None]
    assert (of_file['visualization'][0] == of_array['visualization'][0]).all()
    # RGB; the drawing is on the image itself.
    nothing = inferencer(picture(), return_vis=True, pred_score_thr=1)['visualization'][0]
    assert (nothing[..., ::-1] == picture()).all()


def test_settings_hold_for_one_call(inferencer):
    image = picture(3)
    usual, prediction = inferencer(image), inferencer.model.roi_head.prediction
    none, one = inferencer(image, steps=0), inferencer(image, steps=1)
    assert (scores_of(none) != scores_of(usual)).any() and (scores_of(one) != scores_of(none)).any()
    # The first step is within such a wide limit.
    assert inferencer(image, tol=1e9)['predictions'] == one['predictions']
    assert inferencer(image, tol=dict(position=1e9))['predictions'] == one['predictions']
    assert inferencer(image, tol=0)['predictions'] == usual['predictions']
    anderson = inferencer(image, solver='anderson:memory=2')
    assert (scores_of(anderson) != scores_of(usual)).any()
    assert anderson['predictions'] == inferencer(image, solver=dict(type='anderson', memory=2))['predictions']
    with pytest.raises(UsageError):
        inferencer(np.zeros((4, 4)), steps=1)
    assert inferencer(image)['predictions'] == usual['predictions']
    assert inferencer.model.roi_head.prediction is prediction


@pytest.mark.parametrize('settings, word', [
    (dict(steps=-1), 'steps=-1'), (dict(steps=True), 'steps=True'), (dict(tol='0.1'), "tol='0.1'"),
    (dict(tol={}), 'tol={}'), (dict(batch_size=0), 'batch_size=0'),
], ids=str)
def test_settings_that_make_no_sense(inferencer, settings, word):
    with refused('bad-argument', word):
        inferencer('not looked for', **settings)


@pytest.mark.parametrize('settings, words', [
    (dict(tol=-0.1), 'tol.*-0.1'), (dict(tol=dict(size=1)), "tol.*'size'.*content"),
    (dict(solver='newton'), "solver.*'newton'.*anderson"),
], ids=str)
def test_settings_that_the_decoder_refuses(inferencer, settings, words):
    with pytest.raises(UsageError, match=words):
        inferencer('not looked for', **settings)


def test_decoders_without_an_equilibrium():
    inferencer = DEQDetInferencer('ffndet_digits', untrained=True, show_progress=False)
    assert len(inferencer(picture())['predictions'][0]['scores']) == 20
    for settings, told in ((dict(steps=2), 'steps: '), (dict(tol=0.1, solver='iterate'), 'tol and solver: ')):
        with refused('unsupported-decoder', told, 'FFNDetRoIHead'):
            inferencer(picture(), **settings)


def test_steps_of_sparse_rcnn_count_as_those_of_deqdet():
    cfg = Config.fromfile(str(ROOT / 'configs/sparse_rcnn/deq_sparse_rcnn_digits.py'))
    applied = []
    inferencer = DEQDetInferencer(cfg, untrained=True, show_progress=False)
    inferencer.model.roi_head.bbox_head[1].register_forward_hook(lambda *_: applied.append(1))
    inferencer(picture(), steps=3)
    assert len(applied) == 4  # including the last refinement


ODD = dict(
    one_pixel=lambda path: cv2.imwrite(path, picture()[:1, :1]),
    long=lambda path: cv2.imwrite(path, np.tile(picture()[:1], (1, 45, 1))[:, :4000]),
    high=lambda path: cv2.imwrite(path, np.tile(picture()[:, :1], (58, 1, 1))[:4000]),
    grey=lambda path: cv2.imwrite(path, cv2.cvtColor(picture(), cv2.COLOR_BGR2GRAY)),
    alpha=lambda path: cv2.imwrite(path, cv2.cvtColor(picture(), cv2.COLOR_BGR2BGRA)),
    sixteen_bits=lambda path: cv2.imwrite(path, picture().astype(np.uint16) * 257),
)


@pytest.mark.parametrize('kind', ODD)
def test_odd_images(inferencer, tmp_path, kind):
    path = str(tmp_path / 'odd.png')
    ODD[kind](path)
    results = inferencer(path, out_dir=tmp_path, pred_score_thr=0)
    assert len(scores_of(results)) == 12
    assert np.isfinite(boxes_of(results)).all() and np.isfinite(scores_of(results)).all()
    assert cv2.imread(str(tmp_path / 'vis' / 'odd.png')).shape == cv2.imread(path).shape
    if kind in ('alpha', 'sixteen_bits'):
        assert results['predictions'] == inferencer(picture())['predictions']
    if kind == 'grey':
        assert results['predictions'] == inferencer(cv2.imread(path, cv2.IMREAD_GRAYSCALE))['predictions']


def test_the_shorter_side_of_a_long_image_keeps_a_pixel(inferencer):
    data = inferencer.pipeline(np.zeros((1, 4000, 3), np.uint8))
    # 4000 pixels become 150. Boxes are scaled back by both factors.
    assert data['inputs'].shape == (3, 1, 150)
    assert data['data_samples'].scale_factor == (150 / 4000, 1)


def test_boxes_are_of_the_image_as_it_is_shown(inferencer, tmp_path):
    upright = Image.fromarray(picture()[..., ::-1])
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6  # rotated by 90 degrees
    upright.rotate(90, expand=True).save(tmp_path / 'turned.png', exif=exif)
    results = inferencer(str(tmp_path / 'turned.png'), return_vis=True, pred_score_thr=1)
    assert results['predictions'] == inferencer(picture())['predictions']
    assert results['visualization'][0].shape == (70, 90, 3)


def test_cmyk(inferencer, tmp_path):
    Image.fromarray(picture()[..., ::-1]).convert('CMYK').save(tmp_path / 'a.jpg', quality=100, subsampling=0)
    difference = inferencer.read(str(tmp_path / 'a.jpg')).astype(int) - picture()
    assert np.abs(difference).mean() < 2
    assert len(scores_of(inferencer(str(tmp_path / 'a.jpg')))) == 12


def test_broken_files(inferencer, tmp_path):
    write_pictures(tmp_path, 3)
    whole = (tmp_path / '001.png').read_bytes()
    (tmp_path / '001.png').write_bytes(whole[:len(whole) // 2])
    (tmp_path / '003.png').write_bytes(b'')
    (tmp_path / '004.png').write_text('no image')
    jpeg = cv2.imencode('.jpg', picture())[1].tobytes()
    (tmp_path / '005.jpg').write_bytes(jpeg[:-40])
    with refused('bad-image', '001.png', 'skip_broken=True'):
        inferencer(str(tmp_path))
    results = inferencer(str(tmp_path), skip_broken=True, batch_size=2)
    assert [os.path.basename(path) for path in results['inputs']] == ['000.png', '002.png']
    assert len(results['predictions']) == 2
    reasons = {os.path.basename(each['input']): each['reason'] for each in results['broken']}
    assert list(reasons) == ['001.png', '003.png', '004.png', '005.jpg']
    assert 'truncated' in reasons['001.png'] and reasons['003.png'] == 'empty file'
    assert reasons['004.png'] == 'no image' and 'truncated' in reasons['005.jpg']


def test_what_fails_for_another_reason_is_no_broken_file(inferencer, tmp_path, monkeypatch):
    write_pictures(tmp_path, 1)
    monkeypatch.setattr(inferencer.pipeline.transforms[1], 'transform', lambda results: results['slip'])
    with pytest.raises(KeyError, match='slip'):
        inferencer(str(tmp_path), skip_broken=True)


def test_inputs_of_all_kinds_keep_their_order(inferencer, tmp_path):
    write_pictures(tmp_path / 'a', 2)
    write_pictures(tmp_path / 'a' / 'deeper', 1, first=2)
    inputs = [picture(7), tmp_path / 'a', str(tmp_path / 'a' / '*1.png')]
    results = inferencer(inputs, batch_size=3, out_dir=tmp_path, pred_score_thr=0, no_save_pred=False)
    assert [path and os.path.relpath(path, tmp_path / 'a') for path in results['inputs']] == [
        None, '000.png', '001.png', 'deeper/002.png', '001.png']
    assert len(results['predictions']) == 5
    assert results['predictions'][2]['scores'] == pytest.approx(results['predictions'][4]['scores'], abs=1e-3)
    assert (tmp_path / 'vis' / 'deeper' / '002.png').exists()
    assert (tmp_path / 'preds' / 'deeper' / '002.png.json').exists()


def test_a_video(inferencer, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / 'clip.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 7, (80, 60))
    for number in range(4):
        writer.write(np.roll(picture(0, (60, 80)), number, axis=1))
    writer.release()
    results = inferencer(tmp_path / 'clip.avi', out_dir=tmp_path, steps=3, tol=1e9)
    assert results['refinements'] == [2] * 4 and len(results['predictions']) == 4
    cold = inferencer(tmp_path / 'clip.avi', warm=False, steps=3, tol=1e9)
    assert cold['predictions'][0] == results['predictions'][0]
    assert cold['predictions'][1] != results['predictions'][1]
    video = cv2.VideoCapture(str(tmp_path / 'vis' / 'clip.avi.mp4'))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 4 and video.get(cv2.CAP_PROP_FPS) == 7
    with refused('bad-argument', 'clip.avi', 'list'):
        inferencer([tmp_path / 'clip.avi'])


def test_frames_of_a_program_are_those_of_a_folder(inferencer, tmp_path):
    images = [picture(number) for number in range(3)]
    for number, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f'{number}.png'), image)
    (tmp_path / '1.png').write_bytes(b'')
    of_folder = list(inferencer.frames(tmp_path, tol=1e9))
    assert [found.reason for found in of_folder] == ['', 'empty file', '']
    assert [(found.number, found.refinements) for found in of_folder] == [(0, 2), (1, None), (2, 2)]
    of_program = inferencer.frames((image for image in images[::2]), tol=1e9)
    for found, expected in zip(of_program, of_folder[::2]):
        assert (found.image == expected.image).all()
        assert torch.equal(found.sample.pred_instances.scores, expected.sample.pred_instances.scores)
    # The second frame starts at the equilibrium of the first.
    cold, = inferencer.frames([images[2]], tol=1e9)
    assert (cold.sample.pred_instances.scores != found.sample.pred_instances.scores).any()


@pytest.mark.parametrize('image', [
    np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8),
    np.zeros((4, 4, 3), np.uint16)], ids=lambda image: f'{image.dtype}{image.shape}')
def test_arrays_that_are_no_images(inferencer, image):
    with refused('bad-argument', image.dtype, image.shape, '(H, W, 3)'):
        inferencer(image)


def test_class_names_of_the_checkpoint_come_first(files, tmp_path):
    assert DEQDetInferencer(*files).classes == tuple('0123456789')
    weights = detector().state_dict()
    names = tuple(f'digit {number}' for number in range(10))
    now, before, mmdet_2 = dict(dataset_meta=dict(classes=names)), dict(dataset_meta=dict(CLASSES=names)), \
        dict(CLASSES=names)
    for number, meta in enumerate((now, before, mmdet_2)):
        torch.save(dict(state_dict=weights, meta=meta), tmp_path / f'{number}.pth')
        assert DEQDetInferencer(files[0], tmp_path / f'{number}.pth').classes == names
    torch.save(dict(state_dict=weights, meta=dict(CLASSES='one')), tmp_path / 'few.pth')
    with pytest.raises(UsageError, match='num_classes is 10, but the checkpoint has 1'):
        DEQDetInferencer(files[0], tmp_path / 'few.pth')


def test_what_does_not_belong_together(files, tmp_path):
    config, weights = files
    for given, code, word in [
            ((config, config), 'bad-checkpoint', config),
            ((config, ), 'missing-argument', 'untrained=True'),
            ((config, 'gone.pth'), 'missing-file', 'gone.pth'),
            (('deqdet_digits', weights), 'checkpoint-mismatch', weights),
            ((5, weights), 'bad-argument', 'int'),
            ((config, weights, 'gpu'), 'no-device', "'gpu'")]:
        with refused(code, word):
            DEQDetInferencer(*given)
    for given, words in [((weights, config), str(weights)),
                         (('deqdet_digit', weights), 'deqdet_digit .*deqdet_digits')]:
        with pytest.raises(UsageError, match=words):
            DEQDetInferencer(*given)


class _Executes:

    def __reduce__(self):
        return os.mkdir, ('executed', )


def test_a_pickle_that_executes_is_refused(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict=detector().state_dict(), meta=dict(extra=_Executes())), 'bad.pth')
    with refused('untrusted-checkpoint', 'bad.pth', 'mkdir'):
        DEQDetInferencer(files[0], 'bad.pth')
    assert not os.path.exists('executed')
    DEQDetInferencer(files[0], 'bad.pth', trust_checkpoint=True)
    assert os.path.exists('executed')


def test_class_names_are_written_in_fonts_that_have_their_letters(inferencer, monkeypatch):
    asked = []
    monkeypatch.setattr(fonts, 'families_for', lambda text: asked.append(text) or ('sans-serif', ))
    monkeypatch.setitem(inferencer.visualizer.dataset_meta, 'classes', ['\xe4'] * 10)
    inferencer(picture(), return_vis=True, pred_score_thr=0)
    assert asked and all(text.startswith('\xe4') for text in asked)


def test_what_only_pillow_reads_is_detected_in_as_any_other_image(inferencer, tmp_path):
    for name in 'a.tga', 'b.png':
        Image.fromarray(picture()[..., ::-1]).save(tmp_path / name)
    results = inferencer(str(tmp_path), out_dir=str(tmp_path / 'out'), no_save_pred=False)
    assert results['inputs'] == [str(tmp_path / 'a.tga'), str(tmp_path / 'b.png')]
    assert results['predictions'][0] == results['predictions'][1]
    drawn = [cv2.imread(str(tmp_path / 'out' / 'vis' / name)) for name in ('a.tga.png', 'b.png')]
    assert (drawn[0] == drawn[1]).all()
    assert (tmp_path / 'out' / 'preds' / 'a.tga.json').exists()
