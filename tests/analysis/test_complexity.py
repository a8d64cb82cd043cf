"""Multiply-adds: compared with the paper's tables, and computed by hand."""

from functools import lru_cache

import pytest
from deqdet.analysis import cost_of, total_of
from small_model import ROOT, build, small_config, small_mask_head

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


def masked(kind, **changes):
    """A small detector with masks."""
    config = small_config(mask_head={**small_mask_head(kind), **changes})
    config.test_cfg.rcnn.max_per_img = 30  # more than the 12 queries
    return build(config)


@pytest.mark.parametrize('kind', ['global', 'levels'])
def test_global_masks_by_hand(kind):
    """Each detection has a filter for each level, and products with all cells; 16 x 24 cells of level 0.

    The map from the box is a second filter, and products with the 32 sines of each row and column, which
    are constants and count as a layer.
    """
    model = masked(kind)
    costs, cells = cost_of(model, (64, 96)), [16 * 24, 8 * 12, 4 * 6, 2 * 3]
    levels = dict(levels=4).get(kind, 1)
    cost = costs['mask head']
    placed = dict(levels=1).get(kind, 0)
    sides = placed * sum(16 // 2 ** level + 24 // 2 ** level for level in range(4))
    assert cost.products == pytest.approx(30 * 64 * sum(cells[:levels]) / 1e9)
    assert cost.layers == pytest.approx(
        30 * (64 * (levels * 64 + (4 if levels == 4 else 0) + placed * 4 * 66) + 32 * sides) / 1e9)
    assert cost.parameters == sum(p.numel() for p in model.roi_head.mask_head[-1].parameters())
    assert cost.memory >= 30 * 64 * 96 / 1e6  # the masks
    without = {part: value for part, value in costs.items() if part != 'mask head'}
    for count in (0, 5):
        more = [a - b for a, b in zip(total_of(costs, count), total_of(without, count))]
        assert more == pytest.approx([cost.layers, cost.products])


def test_local_masks_by_hand():
    """RoIs of 14 x 14; a convolution, a deconvolution to 28 x 28, and 10 maps."""
    cost = cost_of(masked('local'), (64, 96))['mask head']
    cells = 14 * 14
    generator = 64 * 2 * 64 * 8
    convolutions = 9 * 64 * 16 * cells + 4 * 16 * 16 * cells + 16 * 10 * 4 * cells
    assert cost.layers == pytest.approx(30 * (generator + convolutions) / 1e9)
    assert cost.products == pytest.approx(30 * 2 * cells * 64 * 8 / 1e9)


def test_boxes_alone_have_no_row_of_masks():
    assert set(cost_of(build(), (64, 96))) == {'backbone', 'neck', 'initialisation', 'refinement'}


def test_the_other_equilibrium_decoder():
    costs = cost_of(detector('sparse_rcnn/deq_sparse_rcnn_digits.py'), (96, 96))
    assert costs['refinement'].total == pytest.approx(costs['initialisation'].total)
    assert costs['refinement'].layers > 0 and costs['refinement'].products > 0
