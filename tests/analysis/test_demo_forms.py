"""The faster ways of solving, on the demo's model."""

import argparse
import csv
import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from deqdet.analysis import Contest, add_arguments, open_detector
from deqdet.compat.checkpoint_loading import safe_checkpoint_loading
from deqdet.model.heads import precision
from mmdet.structures.bbox import bbox_overlaps
from small_model import DEMO_CONFIG, ROOT
from trainings import ON_VALIDATION

pytestmark = pytest.mark.slow


def is_found(box, score, label, detections):
    """Whether detections contain a match: same label, IoU at least 0.95, score within 0.02."""
    like = (detections.labels == label) & ((detections.scores - score).abs() <= 0.02)
    return bool(like.any()) and float(bbox_overlaps(box[None], detections.bboxes[like]).max()) >= 0.95


def test_half_precision_finds_the_same(demo, monkeypatch, capsys):
    """20 + 1 steps on the 200 images, even if the processor only emulates bfloat16."""
    monkeypatch.chdir(demo.folder)
    monkeypatch.setattr(precision, 'supported_dtype', lambda dtype, device: getattr(torch, dtype))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args([str(DEMO_CONFIG), str(demo.checkpoint(0)), '--work-dir', 'forms',
                              '--cfg-options', *ON_VALIDATION])
    with safe_checkpoint_loading(), open_detector(args) as detector, torch.no_grad():
        head, contest = detector.model.roi_head, Contest(detector.evaluator)
        partners = []
        for data in detector.dataloader:
            results = []
            for dtype in (None, 'bfloat16'):
                head.prediction = head.prediction_with(refinement_steps=20, solve_dtype=dtype)
                samples = detector.model.test_step(deepcopy(data))
                results.append([sample.pred_instances for sample in samples])
                contest.process(dtype, samples, results[-1])
            for expected, found in zip(*results):
                partners += [is_found(box, score, label, found) for box, score, label in
                             zip(expected.bboxes, expected.scores, expected.labels) if score >= 0.3]
        ap = [contest.evaluate(dtype, 200)['AP'] for dtype in (None, 'bfloat16')]
    with capsys.disabled():
        print(f'AP float32, bfloat16: {ap}; partners: {sum(partners)} of {len(partners)}')
    assert len(partners) > 400 and sum(partners) / len(partners) >= 0.99
    assert abs(ap[0] - ap[1]) <= 0.001 + 1e-9


def test_frames_of_a_clip_need_half_of_the_steps(demo, tmp_path):
    """Measured with four models on two processors: 28 to 44 % of the refinements, AP -0.7 to +0.1 points.

    The bound is twice the widest of them, since each processor trains another model.
    """
    tools = ROOT / 'tools'
    subprocess.run(
        [sys.executable, str(tools / 'dataset/make_clips.py'), str(tmp_path / 'clips')], check=True)
    subprocess.run(
        [sys.executable, str(tools / 'analysis/warm_start.py'), str(DEMO_CONFIG), str(demo.checkpoint(0)),
         '--tolerance', 'content=0.1', 'position=0.25', '--out', str(tmp_path), '--cfg-options',
         f'test_dataloader.dataset.data_root={tmp_path}/clips/',
         'test_dataloader.dataset.ann_file=clips.json', 'test_dataloader.dataset.data_prefix.img=',
         f'test_evaluator.ann_file={tmp_path}/clips/clips.json'],
        cwd=demo.folder, check=True)
    with open(tmp_path / 'warm_start.csv', newline='') as file:
        cold, warm = csv.DictReader(file)
    assert float(warm['refinements']) <= 0.5 * float(cold['refinements'])
    assert float(warm['AP']) == pytest.approx(float(cold['AP']), abs=0.015)
