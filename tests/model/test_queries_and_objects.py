"""Any number of queries and objects: finite losses and gradients, and the requested number of detections."""

import os

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from small_model import build, small_config, small_sparse_config, total

EXAMPLES = int(os.environ.get('DEQDET_EXAMPLES', 0))
CLASSES = 10


def model_of(config, queries, most):
    config.rpn_head.num_proposals = queries
    config.test_cfg.rcnn.max_per_img = most
    return build(config)


def batch(model, sizes, counts, kind):
    """Random images of these sizes with these numbers of objects."""
    generator = torch.Generator().manual_seed(0)
    images, samples = [], []
    for (height, width), count in zip(sizes, counts):
        images.append(torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator))
        size = torch.tensor([width, height], dtype=torch.float)
        corner = torch.rand(count, 2, generator=generator) * size
        if kind == 'the same':
            corner[:] = size / 3
        other = corner + torch.rand(count, 2, generator=generator) * (size - corner)
        if kind == 'points':
            other = corner.clone()
        elif kind == 'everything':
            corner, other = torch.zeros(count, 2), size.expand(count, 2)
        elif kind == 'far outside':
            corner, other = corner - 1e4, other + 1e4
        sample = DetDataSample(metainfo=dict(
            img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0), img_path='1.png'))
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corner, other], 1),
            labels=torch.randint(0, CLASSES, (count, ), generator=generator))
        samples.append(sample)
    return model.data_preprocessor(dict(inputs=images, data_samples=samples), training=True)


sides = st.integers(33, 160)
counts = st.one_of(st.integers(0, 12), st.integers(0, 1000))
kinds = st.sampled_from(['random', 'the same', 'points', 'everything', 'far outside'])


def finite(model, data, queries, most):
    losses = model.loss(data['inputs'], data['data_samples'])
    assert all(torch.isfinite(value).all() for value in losses.values())
    total(losses).backward()
    assert all(torch.isfinite(each.grad).all() for each in model.parameters() if each.grad is not None)
    model.eval()
    with torch.no_grad():
        found = model.predict(data['inputs'], data['data_samples'])
    for sample in found:
        seen = sample.pred_instances
        assert len(seen) == min(most, queries * CLASSES)
        assert torch.isfinite(seen.bboxes).all() and (seen.bboxes[:, 2:] >= seen.bboxes[:, :2]).all()
        assert ((seen.scores >= 0) & (seen.scores <= 1)).all()
        assert (seen.scores.diff() <= 0).all() and seen.labels.max() < CLASSES


@pytest.mark.slow
@settings(max_examples=EXAMPLES or 8, deadline=None, derandomize=not EXAMPLES)
@given(queries=st.one_of(st.integers(1, 20), st.integers(1, 900)), most=st.integers(1, 1000),
       sizes=st.lists(st.tuples(sides, sides), min_size=1, max_size=3),
       objects=st.lists(counts, min_size=3, max_size=3),
       kind=kinds)
@example(queries=1, most=100, sizes=[(64, 64)] * 2, objects=[0, 0], kind='random')
@example(queries=1, most=1, sizes=[(64, 64)] * 2, objects=[1000, 0], kind='random')
@example(queries=900, most=300, sizes=[(64, 96)] * 2, objects=[1000, 1], kind='the same')
@example(queries=100, most=100, sizes=[(33, 640), (640, 33)], objects=[100, 101], kind='points')
def test_the_deep_equilibrium_head(queries, most, sizes, objects, kind):
    model = model_of(small_config(refinement_steps=2, supervision_position=[2]), queries, most)
    finite(model, batch(model, sizes, objects, kind), queries, most)


@pytest.mark.parametrize('config', [small_config, small_sparse_config], ids=['deqdet', 'sparse rcnn'])
@pytest.mark.parametrize('queries, objects, kind', [
    (1, (0, 0), 'random'), (1, (1000, 3), 'random'), (7, (7, 8), 'points'),
    pytest.param(100, (0, 1000), 'the same', marks=pytest.mark.slow),
    pytest.param(20, (5, 0), 'far outside', marks=pytest.mark.slow)])
def test_few_and_many(config, queries, objects, kind):
    model = model_of(config(), queries, 50)
    finite(model, batch(model, [(64, 96), (96, 33)], objects, kind), queries, 50)
