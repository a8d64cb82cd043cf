"""The file in onnxruntime compared with the detector in PyTorch."""

import json

import numpy as np
import pytest
from deqdet import export
from exported import detector, parts, settling, stacked
from mmengine.config import Config
from refusals import refused
from small_model import DEMO_CONFIG, ROOT, build, few_queries

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group('export')]  # one process records

onnx = pytest.importorskip('onnx')
helper = pytest.importorskip('onnx.helper')
onnxruntime = pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

R50_CONFIG = ROOT / 'configs' / 'deqdet' / 'deqdet_r50_2x_coco.py'
SHAPES = [(96, 96), (64, 160), (192, 128)]


def open_model(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


@pytest.fixture(scope='module')
def given():
    """The file with the number of steps as an input."""
    return export.join_parts(parts(), steps=export.GIVEN, metadata=dict(deqdet_version='1'))


@pytest.fixture(scope='module')
def session(given):
    return open_model(given)


@pytest.mark.parametrize('count', [1, 4])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
@pytest.mark.parametrize('steps', [0, 1, 8])
def test_given_steps(session, shape, count, steps):
    images = export.random_images([shape] * count, seed=count)
    expected = export.predict(detector(), images, steps=steps)
    found = export.run_file(session, images, divisor=32, steps=steps)
    for (boxes, scores, labels), (true_boxes, true_scores, true_labels) in zip(found, expected):
        np.testing.assert_allclose(scores, true_scores, atol=1e-3)
        # Detections with tied scores may come in any order.
        tied = np.abs(np.diff(true_scores)) < 1e-4
        sure = ~(np.append(tied, False) | np.insert(tied, 0, False))
        assert sure.sum() > 5
        np.testing.assert_array_equal(labels[sure], true_labels[sure])
        np.testing.assert_allclose(boxes[sure], true_boxes[sure], atol=0.1)
    assert export.compare_batch(session, detector(), images, steps=steps).good


@pytest.mark.parametrize('steps, unroll', [(0, False), (1, False), (8, False), (1, True)])
def test_fixed_steps(steps, unroll):
    model = export.join_parts(parts(), steps=steps, unroll=unroll)
    assert len([node for node in model.graph.node if node.op_type == 'Loop']) == (not unroll)
    session = open_model(model)
    assert [value.name for value in session.get_inputs()] == ['images', 'sizes']
    for count, shape in zip((1, 4, 2), SHAPES):
        images = export.random_images([shape] * count)
        assert export.compare_batch(session, detector(), images, steps=steps).good


def test_the_detector_of_these_tests_shows_a_difference(session):
    """Each step moves boxes and scores, so these tests would detect wrong or missing steps."""
    images = export.random_images(SHAPES)
    states = [export.predict(detector(), images, steps=steps) for steps in (0, 1, 8)]
    for one, two in zip(states, states[1:]):
        assert max(np.abs(a[0] - b[0]).max() for a, b in zip(one, two)) > 3
        assert max(np.abs(a[1] - b[1]).max() for a, b in zip(one, two)) > 0.01
    assert all(np.ptp(scores) > 0.03 for _, scores, _ in states[-1])
    assert not export.compare_batch(_other_steps(session), detector(), images, steps=1).good


def _other_steps(session):
    """A file that takes one step too many."""

    class Wrong:
        get_inputs = session.get_inputs
        get_outputs = session.get_outputs

        def run(self, names, inputs):
            return session.run(names, {**inputs, 'steps': np.array(inputs['steps'] + 1)})

    return Wrong()


def test_images_of_several_sizes_in_a_batch(session):
    images = export.random_images([(96, 128), (50, 128), (96, 31), (7, 9)])
    assert export.compare_batch(session, detector(), images, steps=4).good
    # The content of the padding does not matter.
    inputs = {**export.inputs_of(images, 32), 'steps': np.array(4)}
    clean = session.run(None, inputs)
    noisy = inputs['images'].copy()
    for place, (height, width) in zip(noisy, inputs['sizes']):
        place[:, height:] = place[:, :, width:] = 200
    for one, two in zip(clean, session.run(None, {**inputs, 'images': noisy})):
        np.testing.assert_array_equal(one, two)
    # The size of the padding does not matter either, except for the features in it.
    alone, = export.run_file(session, images[:1], divisor=32, steps=4)
    np.testing.assert_allclose(alone[1], clean[1][0], atol=1e-3)


def test_the_file_is_sound_and_names_no_folder(given):
    onnx.checker.check_model(given, full_check=True)
    assert {opset.domain: opset.version for opset in given.opset_import} == {'': export.OPSET}
    assert b'/' + b'projects' not in given.SerializeToString()
    sides = {value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
             for value in (*given.graph.input, *given.graph.output)}
    assert sides == dict(images=['batch', 3, 'height', 'width'], sizes=['batch', 2], steps=[],
                         boxes=['batch', 12, 4], scores=['batch', 12], labels=['batch', 12])
    # The file has every weight once: initialisation layer, refinement layer and everything before.
    weights = sum(value.numel() for value in detector().state_dict().values())
    assert given.ByteSize() < 4 * weights + 300_000
    unrolled = export.join_parts(parts(), steps=3, unroll=True)
    assert unrolled.ByteSize() < given.ByteSize() + 300_000


def test_sampling_is_grid_sample_within_the_loop(given):
    """One per level in the initialisation layer and in the body of the Loop, and no others."""
    loop, = (node for node in given.graph.node if node.op_type == 'Loop')
    body, = (attribute.g for attribute in loop.attribute if attribute.name == 'body')
    for graph in (given.graph, body):
        samplings = [node for node in graph.node if node.op_type == 'GridSample']
        assert len(samplings) == len(detector().roi_head.featmap_strides)
        modes = {helper.get_node_attr_value(node, 'mode') for node in samplings}
        assert modes <= {b'linear', b'bilinear'}


def test_published_widths():
    """R50 with the widths of the published config, and weights for which the path converges."""
    model = settling(build(few_queries(Config.fromfile(str(R50_CONFIG)).model)))
    session = open_model(export.join_parts(export.record_parts(model), steps=export.GIVEN))
    for shape in [(224, 320), (320, 256), (192, 384)]:
        for count in (1, 4):
            images = export.random_images([shape] * count, seed=count)
            agreement = export.compare_batch(session, model, images, steps=20)
            assert agreement.boxes <= 0.1 and agreement.scores <= 1e-3, f'{shape}, {count}: {agreement}'


def test_metadata():
    cfg = Config.fromfile(str(DEMO_CONFIG))
    metadata = export.describe(detector(), cfg, classes=('a', 'b'), steps=export.GIVEN)
    model = export.join_parts(parts(), steps=export.GIVEN, metadata=metadata)
    found = open_model(model).get_modelmeta().custom_metadata_map
    assert found == metadata
    assert json.loads(found['classes']) == ['a', 'b']
    assert (found['steps'], found['default_steps'], found['pad_size_divisor']) == ('given', '4', '32')
    assert json.loads(found['mean']) == pytest.approx([123.675, 116.28, 103.53])
    assert json.loads(found['resize'])['scale_factor'] == [1.0, 1.0]


def test_stacked_decoder():
    recorded = export.record_parts(stacked())
    session = open_model(export.join_parts(recorded, steps=0))
    for count, shape in zip((1, 4, 2), SHAPES):
        images = export.random_images([shape] * count)
        assert export.compare_batch(session, stacked(), images, steps=0).good
    assert np.ptp(export.predict(stacked(), images, steps=0)[0][1]) > 0.05
    metadata = export.describe(stacked(), Config.fromfile(str(DEMO_CONFIG)), classes='0123456789', steps=0)
    assert 'steps' not in metadata
    with refused('unsupported-decoder', 'FFNDetRoIHead', 'NAME.onnx'):
        export.record_refinement(stacked())


def test_unrolling_needs_a_number():
    with refused('missing-argument', '--steps N', '--unroll'):
        export.join_parts(parts(), steps=export.GIVEN, unroll=True)
