"""The refinement as a compiled program."""

from copy import deepcopy

import pytest
import torch
from deqdet.equilibrium.batch import take
from deqdet.model.sampling import GridPyramid, RowPyramid
from mmengine.registry import DefaultScope
from small_model import batch_of, contracting, losses_of, path_of


@pytest.fixture(scope='module')
def compiled():
    """One model for all tests of this file, since compiling is slow."""
    torch.compiler.reset()
    with DefaultScope.overwrite_default_scope('mmdet'):
        return contracting(dict(refinement_steps=40, tolerance=dict(content=1e-3, position=0.05)),
                           compile_refinement=True, perturb_content_prob=0, perturb_position_prob=0)


def as_steps(model):
    """The same model, not compiled."""
    model = deepcopy(model)
    model.roi_head.compiler, model.roi_head.sampling = None, 'rows'
    return model


@pytest.mark.slow
def test_the_program_computes_the_same(compiled):
    path, expected = path_of(compiled), path_of(as_steps(compiled))
    assert path.steps == expected.steps
    torch.testing.assert_close(path.final.content, expected.final.content, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(path.final.box, expected.final.box, atol=1e-2, rtol=1e-4)
    assert not compiled.roi_head.compiler._broken


@pytest.mark.slow
def test_images_may_leave_the_batch(compiled):
    paths = []
    for model in (compiled, as_steps(compiled)):
        batch = batch_of(model, ((1, ), (2, ), (3, )))
        with torch.no_grad():
            features = model.extract_feat(batch['inputs'])
            proposals = model.rpn_head.predict(features, batch['data_samples'])
            start, step = model.roi_head.fixed_point_problem(features, proposals, batch['data_samples'])
            if model is compiled:
                step = model.roi_head.compiler(step)
            some = torch.tensor([0, 2])
            paths.append(step.restrict(some)(take(start, some)))
    torch.testing.assert_close(paths[0].content, paths[1].content, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_predictions_are_the_same(compiled):
    results = []
    for model in (compiled, as_steps(compiled)):
        batch = batch_of(model)
        results.append(model.predict(batch['inputs'], batch['data_samples']))
    for one, other in zip(*results):
        torch.testing.assert_close(one.pred_instances.scores, other.pred_instances.scores,
                                   atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_training_solves_with_the_program_and_learns_without(compiled):
    losses = [losses_of(model.train()) for model in (compiled, as_steps(compiled))]
    for name, expected in losses[1].items():
        torch.testing.assert_close(losses[0][name], expected, atol=1e-3, rtol=1e-3, msg=name)
    compiled.eval()


@pytest.mark.slow
def test_without_a_compiler_the_steps_run_as_they_are(monkeypatch, log):
    torch.compiler.reset()
    monkeypatch.setattr('torch._inductor.config.cpp.cxx', ('/nowhere/c++', ))
    monkeypatch.setattr('torch._inductor.config.fx_graph_cache', False)
    model = contracting(dict(refinement_steps=3), compile_refinement=True)
    path, expected = path_of(model), path_of(as_steps(model))
    torch.testing.assert_close(path.final.content, expected.final.content)
    path_of(model)
    assert len([line for line in log if 'cannot be compiled' in line]) == 1


def test_a_compiled_refinement_samples_rows(compiled):
    features = compiled.extract_feat(batch_of(compiled)['inputs'])
    assert isinstance(compiled.roi_head.pyramid(features), RowPyramid)
    plain = contracting()
    assert isinstance(plain.roi_head.pyramid(features), GridPyramid)
