"""Calls share one inferencer but do not affect each other."""

import random
import threading
from itertools import zip_longest

import cv2
import numpy as np
import pytest
import torch
from deqdet import DEQDetInferencer, UsageError
from detecting import picture, write_pictures
from exported import settling
from mmengine.config import Config
from refusals import refused
from small_model import ROOT, batch_of, build, contracting, small_sparse_config

TOLERANCES = (None, 0.3, dict(position=0.2))


def draw_calls(seed, count):
    """Random settings and images."""
    generator = random.Random(seed)
    return [(generator.randrange(2),
             dict(steps=generator.choice((0, 1, 2, 6)), tol=generator.choice(TOLERANCES)))
            for _ in range(count)]


def in_threads(*functions):
    """Run functions in parallel; raises their errors."""
    errors = []

    def run(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function, )) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize('count', [20, pytest.param(100, marks=pytest.mark.slow)])
def test_two_threads(files, tmp_path, count):
    """Many calls in each, as in a web server: every call has its own predictions, inputs and settings."""
    inferencer = DEQDetInferencer(
        *files, show_progress=False, cfg_options={'test_dataloader.dataset.pipeline.1.scale': (40, 32)})
    folder = write_pictures(tmp_path, 2)
    images = [str(folder / f'{number:03}.png') for number in range(2)]
    alone = {}
    calls = [draw_calls(seed, count) for seed in (0, 1)]
    for image, settings in sum(calls, []):
        key = repr((image, settings))
        if key not in alone:
            alone[key] = inferencer(images[image], **settings)
    assert len({repr(results['predictions']) for results in alone.values()}) > 6
    before = inferencer.model.roi_head.prediction

    def serve(mine):
        for image, settings in mine:
            assert inferencer(images[image], **settings) == alone[repr((image, settings))]

    in_threads(*(lambda mine=mine: serve(mine) for mine in calls))
    assert inferencer.model.roi_head.prediction == before


def found_in(batches):
    return [detected.sample.pred_instances.scores for batch in batches for detected in batch]


def assert_equal(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected):
        assert torch.equal(one, other)


def test_generators_that_take_turns(inferencer):
    """Generators of different lengths: other calls run in between, one stops half-way, one fails."""
    images = [picture(seed) for seed in range(4)]
    few, many = (found_in(inferencer.batches(images, steps=steps)) for steps in (1, 8))
    single = inferencer(images[0], steps=0)
    assert (few[0] != many[0]).any()

    left = inferencer.batches(images, steps=3)
    next(left)
    failing = inferencer.batches([images[0], np.zeros((4, 4))], steps=2)
    next(failing)
    turns = [], []
    for pair in zip_longest(inferencer.batches(images[:2], steps=1), inferencer.batches(images, steps=8)):
        for turn, batch in zip(turns, pair):
            turn.extend([batch] if batch else [])
        assert inferencer(images[0], steps=0) == single
        with pytest.raises((UsageError, StopIteration)):
            next(failing)
    left.close()
    assert_equal(found_in(turns[0]), few[:2])
    assert_equal(found_in(turns[1]), many)


def test_what_a_generator_was_told_counts(inferencer):
    """A generator keeps its settings even if it starts later; bad values are refused at once."""
    image, head = picture(), inferencer.model.roi_head
    usual = found_in(inferencer.batches([image]))
    waiting, before = inferencer.batches([image]), head.prediction
    head.prediction = head.prediction_with(refinement_steps=0)
    try:
        assert (found_in(inferencer.batches([image]))[0] != usual[0]).any()
        assert_equal(found_in(waiting), usual)
    finally:
        head.prediction = before
    with refused('bad-argument', 'steps=-1'):
        inferencer.batches([image], steps=-1)


def test_a_call_in_the_middle_of_another(inferencer):
    """A hook of the model calls the model again."""
    image, nested = picture(), []
    one, eight = inferencer(image, steps=1), inferencer(image, steps=8)
    layer = inferencer.model.roi_head.bbox_head[0]

    def call_again(*_):
        handle.remove()
        nested.append(inferencer(image, steps=1))

    handle = layer.register_forward_hook(call_again)
    assert inferencer(image, steps=8) == eight and nested == [one]


def test_broken_files_and_names_are_those_of_the_call(inferencer, tmp_path):
    """Folders whose files have the same names, and arrays, which have no names."""
    for name in 'ab':
        write_pictures(tmp_path / name, 2)
        (tmp_path / name / f'{name}.png').write_bytes(b'')

    def detect(name):
        for _ in range(3):
            results = inferencer([tmp_path / name, picture()], skip_broken=True, no_save_pred=False,
                                 out_dir=tmp_path / 'out' / name, pred_score_thr=1)
            assert [path and path.rpartition('/')[0] for path in results['inputs']] == [
                str(tmp_path / name)] * 2 + [None]
            assert [each['input'] for each in results['broken']] == [str(tmp_path / name / f'{name}.png')]

    in_threads(lambda: detect('a'), lambda: detect('b'))
    arrays = []
    for name in 'ab':
        out = tmp_path / 'out' / name
        drawn = {path.name for path in (out / 'vis').iterdir()}
        assert {f'{name}.json' for name in drawn} == {path.name for path in (out / 'preds').iterdir()}
        assert {'000.png', '001.png'} < drawn
        arrays += drawn - {'000.png', '001.png'}
        assert (cv2.imread(str(out / 'vis' / '000.png')).shape) == (60, 80, 3)
    assert len(arrays) == len(set(arrays)) == 6  # all numbers are different


def test_pictures_of_two_threads(inferencer):
    images = [picture(seed, (40 + 20 * seed, 60)) for seed in range(2)]
    expected = [inferencer(image, return_vis=True, pred_score_thr=0)['visualization'][0] for image in images]

    def paint(number):
        for _ in range(3):
            found = inferencer(images[number], return_vis=True, pred_score_thr=0)['visualization'][0]
            np.testing.assert_array_equal(found, expected[number])

    in_threads(lambda: paint(0), lambda: paint(1))


def test_videos_side_by_side(inferencer, tmp_path):
    """Each continues from its own last frame."""
    paths = []
    for number in range(2):
        paths.append(tmp_path / f'{number}.avi')
        writer = cv2.VideoWriter(str(paths[-1]), cv2.VideoWriter_fourcc(*'MJPG'), 7, (80, 60))
        for shift in range(3):
            writer.write(np.roll(picture(number, (60, 80)), shift, axis=1))
        writer.release()
    settings = [dict(steps=3), dict(steps=5, tol=0.3)]
    expected = [inferencer(path, **each) for path, each in zip(paths, settings)]

    def detect(number):
        for _ in range(3):
            assert inferencer(paths[number], **settings[number]) == expected[number]

    in_threads(lambda: detect(0), lambda: detect(1))


def test_the_progress_bars_of_two_calls(files, monkeypatch):
    """Progress bars are on by default."""
    detect, image = DEQDetInferencer(*files), picture()
    nested = []
    layer = detect.model.roi_head.bbox_head[0]

    def call_again(*_):
        handle.remove()
        nested.append(detect(image))

    handle = layer.register_forward_hook(call_again)
    assert detect(image) == nested[0]


def test_an_argument_that_nobody_reads(inferencer):
    with refused('bad-argument', 'score_thr: ', 'pred_score_thr'):
        inferencer(picture(), score_thr=0.5)


def sparse():
    model = build(small_sparse_config()).eval()
    with torch.no_grad():
        for head in model.roi_head.bbox_head:
            head.fc_reg.weight.normal_(std=0.05)
    return model


@pytest.mark.parametrize('make, changes', [
    (lambda: settling(build()), [dict(refinement_steps=0), dict(refinement_steps=7, max_per_img=5)]),
    (sparse, [dict(num_stages=1), dict(num_stages=6, solver=dict(type='anderson'))])],
    ids=['DEQDetRoIHead', 'DEQ_SparseRoIHead'])
def test_results_of_two_calls_on_the_same_samples(make, changes):
    """A call changes neither the other's result nor the samples."""
    from deqdet.model.detector import predict_batch
    model = make()
    batch = batch_of(model)
    inputs, samples = batch['inputs'], batch['data_samples']
    records = [model.roi_head.prediction_with(**each) for each in changes]
    with torch.no_grad():
        first, second = (predict_batch(model, inputs, samples, settings=record) for record in records)
    assert not any('pred_instances' in sample for sample in samples)
    for record, found in zip(records, (first, second)):
        model.roi_head.prediction = record  # as with a config that has these settings
        with torch.no_grad():
            alone = predict_batch(model, inputs, samples)
        for one, other in zip(found, alone):
            assert torch.equal(one.pred_instances.bboxes, other.pred_instances.bboxes)
    assert len(first[0].pred_instances) != 0
    assert not torch.equal(first[0].pred_instances.bboxes[:5], second[0].pred_instances.bboxes[:5])


def test_a_start_counts_for_one_call():
    """The same samples again, without a start."""
    model = contracting(dict(refinement_steps=60, tolerance=dict(content=1e-3, position=0.05)))
    batch = batch_of(model)
    inputs, samples = batch['inputs'], batch['data_samples']
    with torch.no_grad():
        cold = model.predict(inputs, samples, start=[None, None])
        warm = model.predict(inputs, cold, start=[sample.equilibrium for sample in cold])
        again = model.predict(inputs, cold)
        anew = model.predict(inputs, samples, start=[None, None])
    assert [sample.equilibrium.refinements for sample in warm] == [2, 2]
    assert all('equilibrium' not in sample for sample in again)
    for one, other in zip(cold, anew):
        assert one.equilibrium.refinements == other.equilibrium.refinements > 3


def test_half_precision_beside_float32(monkeypatch):
    """The half-precision weights are private: a float32 call in the middle stays in float32."""
    from deqdet.model.heads import precision
    monkeypatch.setattr(precision, 'supported_dtype', lambda dtype, device: getattr(torch, dtype))
    model, nested = contracting(), []
    batch, head = batch_of(model), model.roi_head

    def scores(**changes):
        with torch.no_grad():
            found = model.predict(batch['inputs'], batch['data_samples'],
                                  settings=head.prediction_with(**changes))
        return [sample.pred_instances.scores for sample in found]

    coarse = dict(solve_dtype='bfloat16', finish_steps=0)
    precise, expected = scores(), scores(**coarse)
    assert (precise[0] != expected[0]).any()

    def call_again(*_):
        handle.remove()
        with torch.autocast('cpu', enabled=False):
            nested.append(scores())

    handle = head.bbox_head[-1].ffn.register_forward_hook(call_again)
    assert_equal(scores(**coarse), expected)
    assert_equal(nested[0], precise)


def test_models_of_one_config_share_no_settings():
    config = Config.fromfile(str(ROOT / 'configs/deqdet/ffndet_digits.py')).model
    config.roi_head.num_stages = 1
    first, second = build(config), build(config)
    first.roi_head.prediction = first.roi_head.prediction_with(max_per_img=3)
    assert first.roi_head.prediction.max_per_img == 3 and second.roi_head.prediction.max_per_img == 20
