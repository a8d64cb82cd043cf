"""The detector as a user builds it: pretrained weights, real data, official configs."""

import json

import cv2
import numpy as np
import pytest
import torch
from golden import load_case
from mmengine.config import Config
from refusals import refused
from small_model import DEMO_CONFIG, ROOT, build, losses_of, small_config, total


@pytest.mark.parametrize('checkpoint', ['no/such/resnet18.pth', 'http://127.0.0.1:9/resnet18.pth'])
def test_pretrained_weights_that_cannot_be_read(checkpoint):
    config = small_config()
    config.backbone.init_cfg = dict(type='Pretrained', checkpoint=checkpoint)
    with refused('missing-file' if checkpoint.startswith('no') else 'download-failed', checkpoint,
                 'model.backbone.init_cfg.checkpoint=FILE', 'model.backbone.init_cfg=None'):
        build(config)


def test_pretrained_weights_from_a_file_are_loaded(tmp_path):
    donor = build()
    torch.nn.init.constant_(donor.backbone.conv1.weight, 0.5)
    torch.save(donor.backbone.state_dict(), tmp_path / 'backbone.pth')
    config = small_config()
    config.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth'))
    assert (build(config).backbone.conv1.weight == 0.5).all()


def swin_config(checkpoint):
    """The demo with the backbone of the Swin-S config, one narrow block per stage."""
    config = small_config()
    config.backbone = Config.fromfile(str(ROOT / 'configs/deqdet/deqdet_swins_2x_coco.py')).model.backbone
    config.backbone.update(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 4])
    config.backbone.init_cfg.checkpoint = str(checkpoint)
    config.neck.in_channels = [8, 16, 32, 64]
    return config


def test_swin_weights_that_cannot_be_read():
    with refused('missing-file', 'no/such/swin.pth', 'model.backbone.init_cfg.checkpoint=FILE'):
        build(swin_config('no/such/swin.pth'))


def test_swin_weights_of_the_release_are_converted_and_the_detector_learns(tmp_path):
    # Names of the Swin release; its classifier is not used.
    released = {'patch_embed.proj.weight': torch.full((8, 3, 4, 4), 0.5),
                'layers.1.blocks.0.mlp.fc1.bias': torch.full((64, ), 0.25),
                'layers.3.blocks.0.attn.relative_position_bias_table': torch.full((169, 4), 0.75),
                'head.weight': torch.zeros(1000, 64)}
    torch.save({'model': released}, tmp_path / 'swin.pth')
    model = build(swin_config(tmp_path / 'swin.pth'))
    assert (model.backbone.patch_embed.projection.weight == 0.5).all()
    assert (model.backbone.stages[1].blocks[0].ffn.layers[0][0].bias == 0.25).all()
    assert (model.backbone.stages[3].blocks[0].attn.w_msa.relative_position_bias_table == 0.75).all()
    total(losses_of(model.train())).backward()
    without = [name for name, parameter in model.named_parameters()
               if parameter.requires_grad and parameter.grad is None]
    assert not without, 'distributed training would stop'


def test_inference_dtype_must_be_known():
    config = small_config()
    config.inference_dtype = 'fp16'
    with refused('bad-setting', "inference_dtype='fp16'", 'None'):
        build(config)


def test_official_config_builds_and_learns():
    """The official form of a config: placeholders, one entry in bbox_head, no default values."""
    from mmdet.registry import MODELS
    case = load_case('deq_plain')
    config = case.model_config()
    assert config.roi_head.bbox_roi_extractor.type == 'SingleRoIExtractor'
    assert len(config.roi_head.bbox_head) == 1
    del config.roi_head['rag']
    model = MODELS.build(config)
    batch = case.batch(model)
    total(model.loss(batch['inputs'], batch['data_samples'])).backward()
    assert model.roi_head.rag == 2 and model.roi_head.extra_supervisions_on_init_head == 2


@pytest.mark.slow
def test_training_learns_a_batch():
    model = build()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    first = None
    for step in range(12):
        loss = total(losses_of(model, seed=step))
        first = first or float(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert float(loss.detach()) < 0.7 * first


@pytest.fixture
def coco(tmp_path):
    """Two images, one of them truncated; one annotation has zero width."""
    (tmp_path / 'images').mkdir()
    generator = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(2):
        path = tmp_path / 'images' / f'{i}.jpg'
        cv2.imwrite(str(path), generator.integers(0, 255, (96, 96, 3), dtype=np.uint8))
        images.append(dict(id=i, file_name=path.name, width=96, height=96))
        for box in ([10, 10, 30, 20], [5, 5, 0, 20], [200, 200, 10, 10], [50, 40, 20, -8]):
            annotations.append(dict(id=len(annotations), image_id=i, category_id=1, bbox=box,
                                    area=max(1, box[2] * box[3]), iscrowd=0))
    (tmp_path / 'train.json').write_text(json.dumps(dict(
        images=images, annotations=annotations,
        categories=[dict(id=i + 1, name=str(i)) for i in range(10)])))
    path.write_bytes(path.read_bytes()[:100])
    return tmp_path


def dataset(root):
    from mmdet.registry import DATASETS
    config = Config.fromfile(str(DEMO_CONFIG)).train_dataloader.dataset
    config.update(data_root=str(root), ann_file='train.json', data_prefix=dict(img='images/'))
    return DATASETS.build(config)


def test_degenerate_and_outside_boxes_do_not_reach_the_losses(coco):
    item = dataset(coco)[0]
    assert len(item['data_samples'].gt_instances.labels) == 1
    model = build()
    batch = model.data_preprocessor(
        dict(inputs=[item['inputs']], data_samples=[item['data_samples']]), training=True)
    assert torch.isfinite(total(model.loss(batch['inputs'], batch['data_samples'])))


def test_a_truncated_image_is_named(coco):
    with pytest.raises(AssertionError, match=r'failed to load image.*1\.jpg'):
        dataset(coco)[1]
