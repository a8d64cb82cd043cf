"""Multiply-adds: compared with the paper's tables, and computed by hand."""

from functools import lru_cache

import pytest
from deqdet.analysis import cost_of
from small_model import ROOT

# Supplement, Tables 3 and 4: GFLOPS by steps. The tables use images of 800 x 800, 25 times the area of the
# image here.
TABLES = {
    '1x': {4: 107.50, 5: 109.73, 6: 111.97, 8: 116.43, 10: 120.90, 15: 132.07, 20: 143.24, 25: 154.41,
           50: 210.25},
    '2x': {4: 129.87, 5: 136.57, 6: 143.27, 8: 156.67, 10: 170.07, 15: 203.58, 20: 237.08, 25: 270.59,
           50: 438.11},
}


@lru_cache
def detector(path):
    from mmdet.registry import MODELS
    from mmengine.config import Config
    config = Config.fromfile(str(ROOT / 'configs' / path)).model
    config.backbone.init_cfg = None
    return MODELS.build(config)


@pytest.mark.parametrize('schedule, step', [
    ('1x', 2.2336), pytest.param('2x', 6.70, marks=pytest.mark.slow)])
def test_tables_of_the_paper(schedule, step):
    costs = cost_of(detector(f'deqdet/deqdet_r50_{schedule}_coco.py'), (160, 160))
    assert costs['refinement'].layers == pytest.approx(step, rel=2e-3)
    once = 25 * (costs['backbone'].layers + costs['neck'].layers) + costs['initialisation'].layers
    for steps, expected in TABLES[schedule].items():
        assert once + steps * costs['refinement'].layers == pytest.approx(expected, rel=2e-3)


def test_one_refinement_by_hand():
    """The layer of `deqdet_r50_1x_coco.py`: 100 queries, 256 channels in 4 groups, 64 -> 128 points."""
    refinement = cost_of(detector('deqdet/deqdet_r50_1x_coco.py'), (64, 64))['refinement']
    mixing = 4 * (64 * 64 * 64 + 128 * 64 * 64)
    attention = 2 * 100 * 256 + 256 * 4 * 256  # products with 100 keys; projections
    assert refinement.products == pytest.approx(100 * (mixing + attention) / 1e9)
    generator, out = 256 * 4 * (64 * 64 + 128 * 64), 4 * 128 * 64 * 256
    small = 256 * (4 * 64 * 3) + 2 * 256 * 2048 + 2 * 256 * 256 + 256 * (80 + 4)
    assert refinement.layers == pytest.approx(100 * (generator + out + small) / 1e9)
    name = 'AdaMixerHead.sampling_n_mixing.adaptive_mixing.out_proj'
    assert refinement.modules[name] == pytest.approx((100 * out / 1e9, 0))
    assert refinement.parameters == sum(p.numel() for p in detector(
        'deqdet/deqdet_r50_1x_coco.py').roi_head.bbox_head[-1].parameters())


def test_memory_of_the_features_is_seen():
    """At least the input cells of the neck's four outputs are alive: 256 channels of 4 bytes."""
    neck = cost_of(detector('deqdet/deqdet_r50_1x_coco.py'), (256, 256))['neck']
    cells = sum((256 // stride) ** 2 for stride in (4, 8, 16, 32))
    assert neck.memory >= cells * 256 * 4 / 1e6


def test_the_other_equilibrium_decoder():
    costs = cost_of(detector('sparse_rcnn/deq_sparse_rcnn_digits.py'), (96, 96))
    assert costs['refinement'].total == pytest.approx(costs['initialisation'].total)
    assert costs['refinement'].layers > 0 and costs['refinement'].products > 0
