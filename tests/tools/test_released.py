"""Files in the layout of the released models: testing, training from them, mmdet's own functions."""

import pickle

import numpy as np
import pytest
import torch
from deqdet.compat.checkpoint_loading import safe_checkpoint_loading
from released import write_released
from small_model import ROOT
from test_trainings import SMALL, write_tiny_coco

pytestmark = pytest.mark.slow

# The last layer of the file prefers this class everywhere.
LABEL, LOGIT = 16, 1.5


@pytest.fixture(scope='module')
def released(tmp_path_factory):
    """A file of the R50 model with 100 queries."""
    bias = torch.full((80, ), -4.0)
    bias[LABEL] = LOGIT
    return write_released(tmp_path_factory.mktemp('released') / 'deqdet_r50_1x.pth', 'deqdet_r50_1x',
                          **{'roi_head.bbox_head.1.fc_cls.bias': bias})


@pytest.fixture
def config(tmp_path):
    """The config of that model on a tiny COCO."""
    write_tiny_coco(tmp_path / 'data' / 'coco', train=2, val=2)
    path = tmp_path / 'tiny.py'
    path.write_text(SMALL.format(base=str(ROOT / 'projects' / 'configs' / 'eqdet_r50_1x_coco.py')))
    return path


def test_the_test_tool(call, config, released, tmp_path, capsys):
    call('test.py', config, released, '--out', 'out.pkl')
    out = capsys.readouterr().out
    assert out.count('(*instance_interactive_conv*)') == 1 and '24 tensors of the checkpoint' in out
    assert 'test: bbox_mAP ' in out
    results = pickle.loads((tmp_path / 'out.pkl').read_bytes())
    assert len(results) == 2
    for result in results:
        pred = result['pred_instances']
        assert pred['labels'].tolist() == [LABEL] * 100
        assert np.allclose(pred['scores'], 1 / (1 + np.exp(-LOGIT)))


def test_the_config_of_another_released_model(refused, config, released):
    config.write_text(config.read_text().replace('r50_1x', 'r50_2x'))
    line = refused('test.py', config, released)
    assert 'deqdet_r50_1x.pth' in line and '[checkpoint-mismatch]' in line
    assert 'rpn_head.init_proposal_features.weight (100, 256) in the file, (300, 256) in the model' in line
    assert '100 queries instead of 300 (model.rpn_head.num_proposals' in line


def test_mmdets_own_functions(config, released, tmp_path):
    """As in a notebook or demo of mmdet; the class names come from the file."""
    from mmdet.apis import inference_detector, init_detector
    with safe_checkpoint_loading():
        model = init_detector(str(config), str(released), device='cpu')
    assert model.dataset_meta['classes'][LABEL] == 'dog'
    result = inference_detector(model, str(tmp_path / 'data' / 'coco' / 'val2017' / '0.jpg'))
    assert result.pred_instances.labels.tolist() == [LABEL] * 100


def test_training_from_it(call, config, released, tmp_path, capsys):
    call('train.py', config, '--work-dir', 'work', '--cfg-options', f'load_from={released}',
         'model.backbone.init_cfg=None', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=2',
         'optim_wrapper.optimizer.lr=0.0', 'default_hooks.checkpoint.save_optimizer=False')
    assert '24 tensors of the checkpoint' in capsys.readouterr().out
    # With a learning rate of zero the weights stay those of the file.
    weights = torch.load(tmp_path / 'work' / 'epoch_1.pth', weights_only=False)['state_dict']
    assert not any('instance_interactive_conv' in name for name in weights)
    bias = weights['roi_head.bbox_head.1.fc_cls.bias']
    assert bias[LABEL] == LOGIT and (bias == -4).sum() == 79
    assert (weights['roi_head.bbox_head.0.fc_cls.bias'] == 0).all()
