"""Samples are drawn as the model gets them."""

import numpy as np
from data.doctor.pets import WIDTH
from deqdet.data.doctor import draw_samples
from mmdet.registry import DATASETS
from PIL import Image


def samples_of(pets, *steps, count=12, seed=0):
    pets.cfg.train_dataloader.dataset.pipeline[2:2] = steps
    dataset = DATASETS.build(pets.cfg.train_dataloader.dataset)
    samples, found = draw_samples(dataset, count, seed, where='train')
    assert found == []
    return {sample.path.split('/')[-1]: sample for sample in samples}


def test_after_the_pipeline_in_the_colours_of_the_file(pets):
    sample = samples_of(pets, dict(type='RandomFlip', prob=1.))['4.png']
    with Image.open(pets.image(4)) as picture:
        np.testing.assert_array_equal(sample.picture, np.asarray(picture)[:, ::-1])
    record = pets.train['images'][4]
    boxes = [each['bbox'] for each in pets.train['annotations'] if each['image_id'] == record['id']]
    np.testing.assert_allclose(
        sample.boxes, [[WIDTH - x - width, y, WIDTH - x, y + height] for x, y, width, height in boxes])


def test_a_seed_chooses_and_leaves_the_generators_alone(pets):
    flip = dict(type='RandomFlip', prob=0.5)
    np.random.seed(3)
    first = samples_of(pets, flip, count=3)
    drawn = np.random.random()
    np.random.seed(3)
    assert np.random.random() == drawn
    again, other = samples_of(pets, count=3), samples_of(pets, count=3, seed=1)
    assert list(first) == list(again) != list(other)
    for name, sample in first.items():
        np.testing.assert_array_equal(sample.picture, again[name].picture)
