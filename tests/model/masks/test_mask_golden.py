"""Masks agree with the official heads, and with formulas written down a second time."""

import json

import numpy as np
import pytest
import torch
from deqdet.analysis.golden import final_maps
from deqdet.model.masks import MaskTraining, Matched
from deqdet.model.targets import Targets
from golden import FOLDER, load_case, relative_error
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from small_model import total
from torch.nn import functional as F

DTYPES = pytest.mark.parametrize('dtype', [torch.float32, torch.float64])


@DTYPES
def test_local_maps_from_the_state_of_the_reference(dtype):
    case = load_case('mask_local')
    found = final_maps(case, case.build(dtype).eval())
    assert found.dtype == dtype
    assert relative_error(found, case.expected['final.mask_logits']) < 1e-5


def test_gradients_of_the_mask_head_of_the_initialisation():
    """Rounding grows along the path to 1e-2, in the official code as well; the first state has no path."""
    case = load_case('mask_local')
    model = case.build().train()
    batch = case.batch(model)
    torch.manual_seed(case.config['train_seed'])
    total(model.loss(batch['inputs'], batch['data_samples'])).backward()
    found = {name: p.grad for name, p in model.named_parameters() if 'mask_head.0' in name}
    assert len(found) == 16
    for name, grad in found.items():
        assert relative_error(grad, case.expected[f'grad.{name}']) < 1e-3, name


def pasted(logits, box, shape):
    """Probabilities inside a box on the image, bilinear, pixel by pixel; 0 outside."""
    side, (x1, y1, x2, y2) = logits.shape[-1], box
    probability = np.zeros((side + 3, side + 3))
    probability[1:side + 1, 1:side + 1] = 1 / (1 + np.exp(-logits))
    row, column = np.mgrid[:shape[0], :shape[1]] + 0.5
    v = ((row - y1) / (y2 - y1) * side + 0.5).clip(0, side + 1)
    u = ((column - x1) / (x2 - x1) * side + 0.5).clip(0, side + 1)
    i, j = v.astype(int), u.astype(int)
    a, b = v - i, u - j
    return ((1 - a) * ((1 - b) * probability[i, j] + b * probability[i, j + 1])
            + a * ((1 - b) * probability[i + 1, j] + b * probability[i + 1, j + 1]))


@pytest.mark.parametrize('rescale', [True, False])
def test_detected_masks_are_pasted_from_probabilities(rescale):
    case = load_case('mask_local')
    model = case.build().eval()
    with torch.no_grad():  # the maps of random weights are almost empty
        model.roi_head.mask_head[-1].conv_logits.bias += 0.3
    batch, head = case.batch(model), model.roi_head
    with torch.no_grad():
        features = model.extract_feat(batch['inputs'])
        proposals = model.rpn_head.predict(features, batch['data_samples'])
        state = head(features, proposals, batch['data_samples'])
        results = head.predict(features, proposals, batch['data_samples'], rescale)
        for image, (result, sample) in enumerate(zip(results, batch['data_samples'])):
            meta = sample.metainfo
            shape = meta['ori_shape' if rescale else 'img_shape']
            assert result.masks.shape == (len(result), *shape) and result.masks.dtype == torch.bool
            scores = state.logits[image].sigmoid().flatten()
            chosen = scores.argsort(descending=True)[:3]
            for number, index in enumerate(chosen.tolist()):
                query, label = divmod(index, 5)
                box = state.box[image, query]
                aligned = head.mask_head[-1].roi_features(features, torch.tensor([image]), box[None])
                logits = head.mask_head[-1].maps(aligned, state.content[image, query][None])[0, label]
                wanted = box / torch.tensor(meta['scale_factor']).repeat(2) if rescale else box
                assert torch.allclose(result.bboxes[number], wanted)
                probability = pasted(logits.double().numpy(), wanted.tolist(), shape)
                found, clear = result.masks[number].numpy(), abs(probability - 0.5) > 1e-4
                assert (found == (probability >= 0.5))[clear].all()
                assert clear.mean() > 0.99
        assert any(0.01 < result.masks.float().mean() < 0.99 for result in results)


def global_case(dtype):
    """The head, features, contents, targets and matched queries of the global case."""
    def read(part):
        return torch.load(FOLDER / 'mask_global' / f'{part}.pt', weights_only=True)

    config = json.loads((FOLDER / 'mask_global' / 'case.json').read_text(encoding='utf-8'))
    head = MODELS.build(config['head'])
    head.load_state_dict(read('state_dict'), strict=True)
    head.settings = MaskTraining.read(config['train_cfg'])
    inputs = read('inputs')
    truth = [InstanceData(masks=BitmapMasks(masks.numpy(), *masks.shape[1:])) for masks in inputs['gt_masks']]
    image = torch.cat([torch.full_like(query, i) for i, query in enumerate(inputs['pos_inds'])])
    content = inputs['content'].to(dtype)
    matched = Matched(
        image, torch.cat(inputs['pos_assigned_gt_inds']), torch.zeros_like(image), torch.zeros(len(image), 4),
        content[image, torch.cat(inputs['pos_inds'])], [torch.tensor(float(len(image)))])
    features = [level.to(dtype) for level in inputs['feats']]
    return (head.to(dtype), features, content, Targets(truth, [{}] * len(truth), torch.zeros(0), []), matched,
            config['train_seed'], read('expected'))


@DTYPES
def test_global_masks(dtype):
    head, features, content, targets, matched, seed, expected = global_case(dtype)
    found = head(features, content, torch.zeros(*content.shape[:2], 4))
    assert found.dtype == dtype
    assert relative_error(found, expected['mask_logits']) < 1e-5
    if dtype == torch.float64:
        return  # the points would be others
    torch.manual_seed(seed)
    losses, = head.losses(features, matched, targets)
    total(losses).backward()
    for key in ('loss_mask', 'loss_dice'):
        assert relative_error(losses[key], expected[f'loss.{key}']) < 1e-5
    compared = 0
    for name, parameter in head.named_parameters():
        if f'grad.{name}' in expected:
            assert relative_error(parameter.grad, expected[f'grad.{name}']) < 1e-4, name
            compared += 1
        assert parameter.grad.abs().sum() > 0, name
    assert compared >= 8


@pytest.mark.parametrize('mlvl, share', [(1, False), (2, False), (2, True), (4, True)])
def test_maps_of_several_levels(mlvl, share):
    """Against the sum over all levels at once."""
    torch.manual_seed(0)
    head = MODELS.build(dict(type='DeCoupleMLVLEHead', embed_dim=8, mlvl=mlvl, share_filter=share)).double()
    features = [torch.randn(2, 8, 16 // 2 ** level, 24 // 2 ** level, dtype=torch.double)
                for level in range(4)]
    content = torch.randn(2, 5, 8, dtype=torch.double)
    assert len(head.mask_embed) == (1 if share else mlvl)
    weights = head.mlvl_weight_generator[0](content).softmax(-1)
    levels = [F.interpolate(
        torch.einsum('bnc,bchw->bnhw', head.mask_embed[0 if share else level](content), features[level]),
        size=(16, 24), mode='bilinear', align_corners=False) for level in range(mlvl)]
    wanted = torch.einsum('bnl,lbnhw->bnhw', weights, torch.stack(levels))
    assert relative_error(head(features, content, torch.zeros(2, 5, 4)), wanted) < 1e-12
