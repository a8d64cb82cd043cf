"""Solvers and tolerances of the DEQ head."""

from copy import deepcopy
from typing import Annotated

import pytest
import torch
from deqdet.equilibrium import SOLVERS, Solver
from pydantic import Field
from refusals import refused
from small_model import (
    batch_of,
    build,
    contracting,
    losses_of,
    path_of,
    small_config,
    small_sparse_config,
    total,
)


def test_both_solvers_find_the_same_equilibrium():
    plain = path_of(contracting(dict(refinement_steps=60)))
    mixed = path_of(contracting(dict(refinement_steps=60, solver=dict(type='anderson', memory=3))))
    for part in ('box', 'content', 'logits'):
        torch.testing.assert_close(
            getattr(mixed.final, part), getattr(plain.final, part), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize('sampling', ['grid', 'rows'])
@pytest.mark.parametrize('solver', ['iterate', 'anderson'])
def test_each_image_stops_by_itself(solver, sampling):
    settings = dict(refinement_steps=60, solver=dict(type=solver),
                    tolerance=dict(content=1e-3, position=0.05))
    model = contracting(settings, sampling=sampling)
    path = path_of(model)
    assert path.reasons == ('tolerance', ) * 3 and max(path.steps) == path.num_steps < 60
    for image in range(3):
        alone = path_of(model, slice(image, image + 1))
        assert alone.steps == path.steps[image:image + 1]
        torch.testing.assert_close(alone.final.content[0], path.final.content[image], atol=1e-4, rtol=1e-4)


def test_detections_with_a_tolerance():
    batch_model = contracting(dict(tolerance=dict(content=1e-3)))
    batch = batch_of(batch_model)
    results = batch_model.predict(batch['inputs'], batch['data_samples'])
    assert all(len(sample.pred_instances) == 12 for sample in results)


def test_training_with_anderson():
    model = build(solver=dict(type='anderson', memory=2, damping=0.1)).train()
    total(losses_of(model)).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize('solver, code, words', [
    ('anderson', 'bad-setting', ["'anderson'", 'roi_head.solver.type=anderson']),
    (dict(memory=3), 'bad-setting', ['roi_head.solver.type=', 'iterate', 'anderson']),
    (dict(type='newton'), 'unknown-type', ['roi_head.solver', "'newton'", 'iterate', 'anderson']),
    (dict(type='anderson', m=2), 'unknown-setting', ["'m'", 'memory, damping, regularisation']),
    (dict(type='anderson', memory=0), 'bad-setting', ['roi_head.solver', 'memory=0', '1']),
    (dict(type='anderson', weight_bound=0.5), 'bad-setting', ['weight_bound=0.5', '1']),
    (dict(type='anderson', damping=1), 'bad-setting', ['damping=1', '0', '1']),
], ids=str)
def test_wrong_solvers(solver, code, words):
    with refused(code, *words):
        build(solver=solver)


@pytest.mark.parametrize('test_cfg, code, words', [
    (dict(tolerance=0.1), 'bad-setting', ['test_cfg.rcnn.tolerance=0.1', 'content, position']),
    (dict(tolerance=dict(boxes=1)), 'unknown-setting',
     ['test_cfg.rcnn.tolerance', "'boxes'", 'content, position']),
    (dict(tolerance=dict(content=-1)), 'bad-setting', ['test_cfg.rcnn.tolerance', 'content=-1', '0']),
    (dict(solver=dict(type='')), 'unknown-type', ['test_cfg.rcnn.solver', 'iterate', 'anderson']),
], ids=str)
def test_wrong_settings_of_prediction(test_cfg, code, words):
    with refused(code, *words):
        contracting(test_cfg)


class Follow:
    """A solver that goes a fraction of the way to the answer."""

    def __init__(self, share):
        self.share = share

    def __call__(self, asked, answered):
        return answered.unpack([
            old + self.share * (new - old) for old, new in zip(asked.pack(), answered.pack())])

    def select(self, images):
        pass


class Learned(Solver, torch.nn.Module):
    """A solver with a weight."""

    kind = 'learned'

    def __init__(self, share: Annotated[float, Field(gt=0)] = 1.0) -> None:
        super().__init__()
        self.share = torch.nn.Parameter(torch.tensor(share))

    def rule(self):
        return Follow(self.share)


def test_a_solver_with_learned_weights(monkeypatch):
    """The solver's weights belong to the detector: to its checkpoints, copies and precision."""
    monkeypatch.setitem(SOLVERS, 'learned', Learned)
    config = small_config(solver=dict(type='learned'))
    config.test_cfg.rcnn.update(solver=dict(type='learned', share=0.5), refinement_steps=60)
    model = build(config)
    assert [key for key in model.state_dict() if 'solver' in key] == [
        'roi_head.prediction_solver.share', 'roi_head.solver.share']
    head = deepcopy(model).double().roi_head
    assert head.prediction.solver is head.prediction_solver is not model.roi_head.prediction_solver
    assert head.prediction.solver.share.dtype == torch.float64
    losses_of(model.train())
    settling = contracting(dict(refinement_steps=60, solver=dict(type='learned', share=0.5)))
    torch.testing.assert_close(
        path_of(settling).final.content, path_of(contracting(dict(refinement_steps=60))).final.content,
        atol=1e-3, rtol=1e-3)
    with refused('bad-setting', 'roi_head.solver', 'share=0'):
        build(solver=dict(type='learned', share=0))


def test_one_meaning_of_the_number_of_refinements():
    """Both heads count alike, in a config and in a call."""
    for head, words in ((build().roi_head, 'refinement_steps=4'),
                        (build(small_sparse_config()).roi_head, 'num_stages=6')):
        assert head.prediction_with(refinements=5).refinements == 5
        assert head.setting_for(5) == words
        key, _, value = words.partition('=')
        assert head.prediction_with(**{key: int(value)}).refinements == 5
        # The config is read when the head is built, so later changes are refused.
        head.test_cfg.score_thr = 0.3
        with refused('bad-argument', 'model.roi_head.test_cfg', 'prediction_with'):
            head.settings_or_own(None)
