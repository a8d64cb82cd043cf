"""Metric names that loggers get."""

import pytest
from deqdet.training.metric_names import MetricNamesHook
from mmengine.visualization import Visualizer
from training.toy import StrictBackend


@pytest.mark.parametrize('name, clean', [
    ('coco/bbox_mAP_50', 'coco/bbox_mAP_50'), ('init^1_loss_cls', 'init_1_loss_cls'),
    ('equilibrium/content_absolute/step01', 'equilibrium/content_absolute/step01'),
    ('coco/Bär & Öl_precision', 'coco/Bar___Ol_precision'), ('coco/猫_precision', 'coco/__precision'),
    ('a//b', 'a/_/b'), ('/a/', '_/a/_'), ('a/../b', 'a/__/b'), ('', '_'), ('x' * 300, 'x' * 250)])
def test_clean_names(name, clean):
    hook = MetricNamesHook()
    assert hook.name_of(name) == hook.name_of(name) == clean


def test_names_that_become_the_same_stay_apart(tmp_path):
    """Also after a resume, whichever name is logged first then."""
    backend = StrictBackend()
    visualizer = Visualizer(vis_backends=[backend])
    runner = type('', (), dict(visualizer=visualizer))
    hook = MetricNamesHook()
    hook.before_run(runner)
    visualizer.add_scalars({'hot dog': 1, 'hot-dog': 2, 'hot_dog': 3}, step=1)
    visualizer.add_scalar('hot&dog', 4)
    assert backend.values == {'hot_dog': [1], 'hot-dog': [2], 'hot_dog_2': [3], 'hot_dog_3': [4]}
    resumed = MetricNamesHook()
    resumed.before_run(runner)
    resumed.load_state_dict(hook.state_dict())
    visualizer.add_scalars({'hot&dog': 6, 'hot dog': 5, 'hot^dog': 7})
    assert backend.values['hot_dog'] == [1, 5] and backend.values['hot_dog_3'] == [4, 6]
    assert backend.values['hot_dog_4'] == [7]
