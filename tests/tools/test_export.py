"""tools/export.py, the example for its files, and the tool that compares them on the test data."""

import csv
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from deqdet import analysis, export
from deqdet.export import record_parts
from exported import CONFIG, detector, expanding, masked, parts, planted, program
from mmengine.config import Config
from refusals import says
from small_model import ROOT, build, small_mask_head

pytestmark = pytest.mark.xdist_group('export')  # one process records

pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

EXAMPLE = ROOT / 'demo' / 'onnx_detect.py'


@pytest.fixture(autouse=True)
def recorded(monkeypatch):
    """Do not record the parts again for every call; returns the requested ones."""
    asked = {}

    def take_parts(model, **options):
        asked.update(options)
        return parts()

    monkeypatch.setattr(export, 'record_parts', take_parts)
    return asked


@pytest.fixture
def files(tmp_path):
    """A config, a checkpoint, and images of two sizes."""
    (tmp_path / 'small.py').write_text(CONFIG)
    torch.save(dict(state_dict=detector().state_dict(), meta={}), tmp_path / 'small.pth')
    (tmp_path / 'images').mkdir()
    for name, image in zip('ab', export.random_images([(90, 200), (160, 120)])):
        cv2.imwrite(str(tmp_path / 'images' / f'{name}.png'), cv2.GaussianBlur(image, (9, 9), 3))
    return tmp_path


@pytest.fixture
def exported(call, files, capsys):
    """Export with options; returns the line that the tool prints."""

    def exported(*words):
        call('export.py', files / 'small.py', files / 'small.pth', 'small.onnx', *words)
        return capsys.readouterr().out.strip().splitlines()[-1]

    return exported


def metadata_of(path):
    return onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map


@pytest.mark.slow
def test_default(exported, recorded):
    line = exported()
    assert line.startswith('small.onnx: ') and 'checked against PyTorch: 5 images, boxes within' in line
    assert metadata_of('small.onnx')['steps'] == '8'
    assert recorded == dict(dynamic=True, shape=None, opset=export.OPSET, masks=True)


@pytest.mark.slow
def test_options(exported, recorded, files):
    line = exported('--steps', 2, '--unroll', '--shape', 160, 192, '--opset', 19, '--check',
                    files / 'images' / 'a.png')
    assert '1 images' in line
    assert metadata_of('small.onnx')['steps'] == '2'
    assert recorded == dict(dynamic=True, shape=(160, 192), opset=19, masks=True)


@pytest.mark.slow
def test_what_the_file_cannot_have_is_said(call, files, capsys):
    call('export.py', files / 'small.py', files / 'small.pth', 'small.onnx', '--steps', 1, '--cfg-options',
         'model.test_cfg.rcnn.solver.type=anderson', 'model.test_cfg.rcnn.tolerance.content=0.1',
         'model.inference_dtype=bfloat16', 'model.test_cfg.rcnn.score_thr=0.5',
         'model.test_cfg.rcnn.nms.type=nms', 'model.test_cfg.rcnn.nms.iou_threshold=0.5')
    out = capsys.readouterr().out
    assert all(setting in out for setting in (
        'solver anderson and tolerance', "model.inference_dtype='bfloat16'", 'score_thr and nms'))
    assert 'the best 12' in out


@pytest.mark.slow
def test_eight_bits(exported, files):
    line = exported('--steps', 2, '--int8', files / 'images')
    assert 'eight bits' in line
    assert metadata_of('small.onnx')['int8'] == 'yes'
    small = (files / 'small.onnx').stat().st_size
    exported('--steps', 2, '--force')
    assert small < 0.75 * (files / 'small.onnx').stat().st_size


@pytest.mark.slow
def test_refinement(call, refused, files, capsys, monkeypatch):
    monkeypatch.setattr(export, 'record_refinement', lambda model, dynamic: program())
    call('export.py', files / 'small.py', files / 'small.pth', 'small.pt2')
    assert 'the refinement layer: features, position' in capsys.readouterr().out
    read = torch.export.load('small.pt2').module()
    for images in (export.random_images([(64, 96)]), export.random_images([(96, 64)] * 4)):
        assert export.compare_program(read, detector(), images) < export.STEP_LIMIT
    # The program has other weights than the checkpoint.
    other = {**detector().state_dict()}
    other['roi_head.bbox_head.1.fc_reg.bias'] = torch.full((4, ), 0.01)
    torch.save(dict(state_dict=other, meta={}), files / 'other.pth')
    line = refused('export.py', files / 'small.py', files / 'other.pth', 'other.pt2')
    assert 'other.pt2 ' in line and 'refinement' in line and line.endswith(' [export-differs]')
    assert not list(files.glob('other.pt2*'))


@pytest.mark.slow
def test_a_file_that_disagrees_is_refused(refused, files, monkeypatch):
    joined = export.join_parts

    def one_step_more(*args, steps, **kwargs):
        return joined(*args, steps=steps + 1, **kwargs)

    monkeypatch.setattr(export, 'join_parts', one_step_more)
    line = refused('export.py', files / 'small.py', files / 'small.pth', 'small.onnx', '--steps', 0)
    assert 'small.onnx ' in line and '2 refinements, not 1' in line and line.endswith(' [export-differs]')
    assert not list(files.glob('*.onnx*'))


@pytest.mark.slow
def test_random_weights_are_no_error(call, files, capsys, monkeypatch):
    """A path that amplifies rounding: the file is right, though its detections differ from PyTorch's."""
    model, recorded = expanding()
    torch.save(dict(state_dict=model.state_dict(), meta={}), files / 'small.pth')
    monkeypatch.setattr(export, 'record_parts', lambda model, **_: recorded)
    call('export.py', files / 'small.py', files / 'small.pth', 'small.onnx', '--steps', 20)
    line = capsys.readouterr().out.strip().splitlines()[-1]
    assert 'this model expands rounding' in line and 'each of 21 refinements' in line
    assert (files / 'small.onnx').exists()


@pytest.mark.slow
def test_random_weights_are_no_excuse(refused, files, monkeypatch):
    """The same with an error in the graph, which the grown rounding errors would hide."""
    model, recorded = expanding()
    torch.save(dict(state_dict=model.state_dict(), meta={}), files / 'small.pth')
    wrong = planted(recorded, 'refinement', 'layer.fc_cls.bias')
    monkeypatch.setattr(export, 'record_parts', lambda model, **_: wrong)
    line = refused('export.py', files / 'small.py', files / 'small.pth', 'small.onnx', '--steps', 20)
    assert 'does not compute what PyTorch does' in line and line.endswith(' [export-differs]')
    assert not list(files.glob('*.onnx*'))


@pytest.mark.slow
def test_detections_of_a_settled_path_are_held_to_the_limits(refused, files, monkeypatch):
    """Correct steps are not enough if the detections differ from PyTorch's."""
    monkeypatch.setattr(export, 'compare_batch', lambda *_, **__: export.Agreement(1, 0.2, 0.0))
    line = refused('export.py', files / 'small.py', files / 'small.pth', 'small.onnx', '--steps', 1)
    assert 'boxes within 0.2 px' in line and '0.1 px' in line and line.endswith(' [export-differs]')
    assert not list(files.glob('*.onnx*'))


@pytest.mark.parametrize('words, message', [
    (['small.pb'], 'small.pb: ... .onnx ... [bad-argument]'),
    (['small.onnx', '--steps', -1], '--steps -1: ... [bad-argument]'),
    (['small.onnx', '--steps', 'given', '--unroll'], '--unroll ... --steps N ... [bad-argument]'),
    (['small.onnx', '--no-dynamic'], '--no-dynamic ... --shape HEIGHT WIDTH ... [missing-argument]'),
    (['small.onnx', '--opset', 15], '--opset 15: ... 18 ... [bad-argument]'),
    (['small.py'], 'small.py: ... .onnx ... [bad-argument]'),
    (['there.onnx'], '[output-exists]'),
], ids=str)
def test_wrong_words(refused, files, words, message):
    (files / 'there.onnx').touch()
    assert says(refused('export.py', files / 'small.py', files / 'small.pth', *words), message)


def test_wrong_files(refused, files, monkeypatch):
    words = files / 'small.py', files / 'small.pth', 'small.onnx'
    line = refused('export.py', words[0], 'gone.pth', words[2])
    assert 'gone.pth' in line and '[missing-file]' in line
    line = refused('export.py', ROOT / 'configs/deqdet/deqdet_digits.py', *words[1:])
    assert '[checkpoint-mismatch]' in line
    sparse = ROOT / 'configs/sparse_rcnn/deq_sparse_rcnn_digits.py'
    torch.save(build(Config.fromfile(str(sparse)).model).state_dict(), 'sparse.pth')
    monkeypatch.setattr(export, 'record_parts', record_parts)
    line = refused('export.py', sparse, 'sparse.pth', words[2])
    assert 'DEQ_SparseRoIHead' in line and '[unsupported-decoder]' in line
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    assert 'pip install onnxruntime' in refused('export.py', *words)


@pytest.mark.slow
@pytest.mark.parametrize('steps', ['given', '3'])
def test_the_example(exported, files, steps):
    """It imports neither torch nor mmdet, and its boxes are those of mmdet's pipeline."""
    exported('--steps', steps)
    paths = [str(files / 'images' / f'{name}.png') for name in 'ab']
    code = ('import runpy, sys; sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0], '
            'run_name="__main__"); assert not {"torch", "mmdet", "mmcv", "mmengine", "deqdet"} & '
            'set(sys.modules)')
    more = ['--steps', '3'] if steps == 'given' else []
    done = subprocess.run(
        [sys.executable, '-c', code, str(EXAMPLE), 'small.onnx', *paths, '--json', 'found.json', '--score',
         '0.01', '--out', 'drawn', '--threads', '1', *more], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f'{paths[0]}: ')
    assert cv2.imread('drawn/b.png').shape == (160, 120, 3)
    cfg, model = Config.fromfile(str(files / 'small.py')), detector()
    model.roi_head.prediction = model.roi_head.prediction_with(refinement_steps=3)
    for path, found in zip(paths, json.load(open('found.json'))):
        _, data = analysis.read_image(cfg, path)
        with torch.no_grad():
            expected = model.test_step(data)[0].pred_instances
        np.testing.assert_allclose(found['scores'], expected.scores, atol=1e-3)
        np.testing.assert_allclose(np.sort(found['boxes'], 0), np.sort(expected.bboxes, 0), atol=0.2)


@pytest.mark.slow
def test_comparison_on_the_test_data(call, exported, files):
    subprocess.run([sys.executable, str(ROOT / 'tools/dataset/make_digits.py'), 'data/digits', '--train', '2',
                    '--val', '3', '--test', '3'], check=True)
    exported()
    call('analysis/exported.py', files / 'small.py', files / 'small.pth', 'small.onnx', '--out', 'out')
    torch_row, file_row = csv.DictReader(open('out/exported.csv'))
    assert (torch_row['run'], file_row['run']) == ('PyTorch', 'small.onnx')
    assert torch_row['AP'] == file_row['AP'] and float(file_row['ms an image']) > 0


def test_swin_is_for_one_size(refused, files, monkeypatch):
    """The error comes before the recording, which would take minutes."""
    config = (files / 'small.py').read_text() + """
model['backbone'] = dict(_delete_=True, type='SwinTransformer', embed_dims=8, depths=[1, 1, 1, 1],
                         num_heads=[1, 1, 1, 1])
model['neck'] = dict(in_channels=[8, 16, 32, 64])
"""
    (files / 'swin.py').write_text(config)
    torch.save(build(Config.fromfile(str(files / 'swin.py')).model).state_dict(), 'swin.pth')
    monkeypatch.setattr(export, 'record_parts', record_parts)
    line = refused('export.py', files / 'swin.py', 'swin.pth', 'swin.onnx')
    assert 'SwinTransformer' in line and '--no-dynamic --shape HEIGHT WIDTH' in line
    assert '[export-unsupported]' in line


@pytest.mark.slow
def test_masks_on_the_test_data(call, refused, files, monkeypatch, capsys):
    """File and detector have the same masks; a file without masks is compared by its boxes."""
    subprocess.run([sys.executable, str(ROOT / 'tools/dataset/make_digits.py'), 'data/digits', '--train', '2',
                    '--val', '3', '--test', '3'], check=True)
    model, recorded = masked('local')
    head = small_mask_head('local')
    (files / 'masked.py').write_text((files / 'small.py').read_text() + (
        f'model.update(roi_head=dict(mask_head={head!r}))\n'
        "test_evaluator = dict(metric=['bbox', 'segm'])\n"))
    torch.save(dict(state_dict=model.state_dict(), meta={}), 'masked.pth')
    words, asked = (files / 'masked.py', 'masked.pth'), {}

    def take_parts(model, masks, **options):
        asked.update(masks=masks)
        return recorded if masks else parts_without_masks

    parts_without_masks = record_parts(model, masks=False)
    monkeypatch.setattr(export, 'record_parts', take_parts)
    call('export.py', *words, 'masked.onnx', '--steps', 1)
    assert asked['masks'] and 'masks within' in capsys.readouterr().out
    assert metadata_of('masked.onnx')['masks'] == 'boxes'
    call('export.py', *words, 'boxes.onnx', '--steps', 1, '--no-masks')
    assert not asked['masks'] and 'masks within' not in capsys.readouterr().out
    assert 'masks' not in metadata_of('boxes.onnx')

    same_steps = ['--cfg-options', 'model.test_cfg.rcnn.refinement_steps=1']
    call('analysis/exported.py', *words, 'masked.onnx', '--out', 'out', *same_steps)
    rows = list(csv.DictReader(open('out/exported.csv')))
    for metric in ('AP', 'mask AP', 'mask AP50'):
        assert rows[0][metric] == rows[1][metric]
    line = refused('analysis/exported.py', *words, 'boxes.onnx')
    assert says(line, 'boxes.onnx has no masks ... test_evaluator.metric=bbox [settings-mismatch]')
    call('analysis/exported.py', *words, 'masked.onnx', 'boxes.onnx', '--out', 'out', *same_steps,
         'test_evaluator.metric=bbox')
    rows = list(csv.DictReader(open('out/exported.csv')))
    assert len(rows) == 3 and len({row['AP'] for row in rows}) == 1 and 'mask AP' not in rows[0]


def test_masks_that_cannot_be_exported(refused, files, monkeypatch):
    """The error comes before the recording, and says how to export the boxes."""
    model = Config.fromfile(str(ROOT / 'configs/deqdet/deqdet_digits_mask-local.py')).model
    heads = model.roi_head.mask_head.to_dict()
    heads['mask_roi_extractor']['roi_layer']['pool_mode'] = 'max'
    config = (files / 'small.py').read_text() + f'model.update(roi_head=dict(mask_head={heads!r}))\n'
    (files / 'masked.py').write_text(config)
    torch.save(build(Config.fromfile(str(files / 'masked.py')).model).state_dict(), 'masked.pth')
    monkeypatch.setattr(export, 'record_parts', record_parts)
    line = refused('export.py', files / 'masked.py', 'masked.pth', 'masked.onnx')
    assert says(line, "WarpedEfficientDynamicMaskHead ... pool_mode='avg', or --no-masks ... "
                      '[export-unsupported]')


@pytest.mark.slow
def test_versions_that_were_not_tried_are_said(exported, monkeypatch, capsys, call, files):
    monkeypatch.setattr(torch, '__version__', '2.9.1+cpu')
    call('export.py', files / 'small.py', files / 'small.pth', 'small.onnx', '--steps', 0)
    lines = capsys.readouterr().out.splitlines()
    assert 'torch 2.9.1+cpu' in lines[0] and '2.13' in lines[0]
    assert 'checked against PyTorch' in lines[-1]


def test_a_torch_that_cannot(refused, files, monkeypatch):
    monkeypatch.setattr(export, 'record_parts', record_parts)
    monkeypatch.delattr(torch.onnx, 'ONNXProgram')
    line = refused('export.py', files / 'small.py', files / 'small.pth', 'small.onnx')
    assert f'torch {torch.__version__}' in line and '[missing-package]' in line


@pytest.mark.slow
def test_stacked_decoders_have_no_steps(refused, files, monkeypatch):
    monkeypatch.setattr(export, 'record_parts', lambda model, **_: parts()._replace(refinement=None))
    line = refused('export.py', files / 'small.py', files / 'small.pth', 'small.onnx', '--steps', 2)
    assert '--steps' in line and line.endswith(' [unsupported-decoder]')
