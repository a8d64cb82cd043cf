"""A model in double precision computes in it from the images to detections and gradients."""

import torch
from deqdet.model.heads import precision
from small_model import batch_of, contracting, total


def inputs_of(batch):
    return dict(batch_inputs=batch['inputs'], batch_data_samples=batch['data_samples'])


def test_a_double_model_computes_in_double_precision(log):
    """mmdet's usual way, with every setting that has its own precision."""
    precision._report_double.cache_clear()
    model = contracting(
        dict(solve_dtype='bfloat16', tolerance=dict(content=1e-3, position=0.1), refinement_steps=3,
             solver=dict(type='anderson', memory=2)), solve_dtype='bfloat16', refinement_steps=2,
        supervision_position=[1])
    model.inference_dtype = 'bfloat16'
    with torch.no_grad():
        found = model.predict(**inputs_of(batch_of(model)), start=[None, None])
        start = found[0].equilibrium
        assert start.content.dtype == torch.float32
        model.double()
        batch = batch_of(model)
        assert batch['inputs'].dtype == torch.float64
        # A data preprocessor without normalisation gives float32.
        assert {level.dtype for level in model.extract_feat(batch['inputs'].float())} == {torch.float64}
        warm = model.predict(**inputs_of(batch), start=[start, None])
        sample = batch_of(model)['data_samples'][0]
        image = torch.zeros(3, 96, 96, dtype=torch.uint8)
        cold = model.test_step(dict(inputs=[image], data_samples=[sample]))
    for sample in (*warm, *cold):
        assert sample.pred_instances.bboxes.dtype == sample.pred_instances.scores.dtype == torch.float64
    assert {sample.equilibrium.content.dtype for sample in warm} == {torch.float64}
    assert sum('double precision: solve_dtype' in line for line in log) == 1

    # Data pipelines give boxes in float32.
    batch = batch_of(model.train())
    assert batch['data_samples'][0].gt_instances.bboxes.dtype == torch.float32
    losses = model.loss(batch['inputs'], batch['data_samples'])
    assert {value.dtype for key, value in losses.items() if 'loss' in key} == {torch.float64}
    total(losses).backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float64}
