"""Released weights against real configs: messages describe the difference and the likely mistake."""

from functools import partial

import pytest
import torch
from deqdet.checkpoints.architecture import in_words, read_architecture
from deqdet.checkpoints.fit import fit_weights, shapes_of
from mmdet.registry import MODELS
from mmengine.config import Config
from released import state_dict_of_table
from small_model import ROOT, build, small_config

CONFIGS = ROOT / 'configs'


def model_of(config, **options):
    """A config's model, without values."""
    cfg = Config.fromfile(str(CONFIGS / config))
    cfg.merge_from_dict(options)
    # Swin reads its drop rates from a tensor, which must have values.
    linspace = torch.linspace
    with pytest.MonkeyPatch.context() as patch, torch.device('meta'):
        patch.setattr(torch, 'linspace', partial(linspace, device='cpu'))
        return MODELS.build(cfg.model)


def fit_of(table, config, **options):
    return fit_weights(state_dict_of_table(table), model_of(config, **options))[1]


@pytest.mark.parametrize('name', ['r50_1x', 'r50_2x', 'r101_2x', 'swins_2x', 'swinl_2x'])
def test_released_models_fit_their_configs(name):
    fit = fit_of(f'deqdet_{name}', f'deqdet/deqdet_{name}_coco.py')
    assert fit.fitting == fit.total > 300
    assert not fit.extra and not fit.of_another_architecture()


@pytest.mark.parametrize('table, config, name, clause', [
    ('deqdet_r50_2x', 'deqdet/deqdet_r50_1x_coco.py', 'rpn_head.init_proposal_features.weight (300, 256)',
     '300 queries instead of 100 (model.rpn_head.num_proposals; the released 1x model of R50 has 100'),
    ('deqdet_r50_1x', 'deqdet/deqdet_r50_2x_coco.py', 'rpn_head.init_proposal_bboxes.weight (100, 4)',
     '100 queries instead of 300 (model.rpn_head.num_proposals; the released 1x model of R50 has 100'),
    ('deqdet_r50_1x', 'deqdet/deqdet_r50_p64-32_1x_coco.py',
     'bbox_head.1.sampling_n_mixing.sampling_offset_generator.0.weight (768, 256) in the file, (384, 256)',
     'sampling points 64 instead of 64, 32 (in_points of bbox_head; the released models have 64 in both'),
    ('deqdet_r101_2x', 'deqdet/deqdet_r50_2x_coco.py', 'not in the model: backbone.layer3.6.conv1.weight',
     'ResNet-101 instead of ResNet-50 (model.backbone)'),
    ('deqdet_r50_2x', 'deqdet/deqdet_r101_2x_coco.py', 'not in the file: backbone.layer3.6.conv1.weight',
     'ResNet-50 instead of ResNet-101 (model.backbone)'),
    ('deqdet_swins_2x', 'deqdet/deqdet_swinl_2x_coco.py',
     'backbone.patch_embed.projection.weight (96, 3, 4, 4) in the file, (192, 3, 4, 4) in the model',
     'Swin of width 96 and depths 2-2-18-2 instead of Swin of width 192 and depths 2-2-18-2'),
    ('deqdet_swins_2x', 'deqdet/deqdet_r50_2x_coco.py', 'not in the file: backbone.conv1.weight',
     'Swin of width 96 and depths 2-2-18-2 instead of ResNet-50'),
    ('deqdet_swinl_2x', 'deqdet/deqdet_swinl_1x_coco_decoder384.py',
     'rpn_head.init_proposal_features.weight (300, 256) in the file, (300, 384) in the model',
     'content vectors of width 256 instead of 384 (model.rpn_head.proposal_feature_channel and content_dim'),
    ('deqdet_swinl_1x_900q', 'deqdet/deqdet_swinl_1x_coco.py', '(900, 256) in the file, (300, 256)',
     '900 queries instead of 300 (model.rpn_head.num_proposals'),
    ('deqdet_r50_1x', 'deqdet/ffndet_r50_1x_coco.py', 'not in the file: roi_head.bbox_head.2.iof_tau',
     '2 decoder layers instead of 6 (model.roi_head; DEQDetRoIHead has 2 layers, FFNDetRoIHead num_stages'),
])
def test_the_likely_mistake(table, config, name, clause):
    fit = fit_of(table, config)
    assert clause in fit.hint() and 'use the config' in fit.hint()
    assert name in fit.differences()
    assert '\n' not in fit.hint() + fit.differences()


def test_other_sizes_of_the_decoder():
    layer = dict(feedforward_channels=1024, n_groups=8, out_points=64)
    options = {f'model.roi_head.bbox_head.{number}.{key}': value
               for number in (0, 1) for key, value in layer.items()}
    hint = fit_of('deqdet_r50_1x', 'deqdet/deqdet_r50_1x_coco.py', **options).hint()
    assert 'hidden width of the FFN 2048 instead of 1024 (feedforward_channels of bbox_head)' in hint
    assert 'groups 4 instead of 8' in hint and 'mixing points 128 instead of 64' in hint
    assert 'sampling points' not in hint


def test_another_number_of_classes_alone():
    options = {f'model.roi_head.bbox_head.{number}.num_classes': 2 for number in (0, 1)}
    fit = fit_of('deqdet_r50_1x', 'deqdet/deqdet_r50_1x_coco.py', **options)
    assert set(fit.reshaped) == {f'roi_head.bbox_head.{number}.fc_cls.{kind}' for number in (0, 1)
                                 for kind in ('weight', 'bias')}
    assert '80 outputs of its classifiers instead of 2 (num_classes); set num_classes' in fit.hint()


@pytest.mark.parametrize('config, words', [
    ('deqdet/deqdet_digits.py',
     'ResNet-18 of width 32; 64 channels of the features; 8 queries; content vectors of width 64; '
     '2 decoder layers; sampling points 16; mixing points 32; groups 2; hidden width of the FFN 256; '
     '10 outputs of its classifiers'),
    ('deqdet/deqdet_r50_p64-32_2x_coco.py',
     'ResNet-50; 256 channels of the features; 300 queries; content vectors of width 256; '
     '2 decoder layers; sampling points 64, 32; mixing points 128; groups 4; hidden width of the FFN 2048; '
     '80 outputs of its classifiers'),
    ('sparse_rcnn/deq_sparse_rcnn_r50_2x_coco.py',
     'ResNet-50; 300 queries; content vectors of width 256; 80 outputs of its classifiers')])
def test_architecture_in_words(config, words):
    assert in_words(read_architecture(shapes_of(model_of(config).state_dict()))) == words


@pytest.mark.parametrize('stage', [0, 1, 19])
def test_tensors_without_use_in_one_decoder_are_at_work_in_another(stage):
    """The released DEQDet models do not use tensors of these names; Sparse R-CNN uses them."""
    model = model_of('sparse_rcnn/deq_sparse_rcnn_r50_2x_coco.py')
    name = f'roi_head.bbox_head.{stage}.instance_interactive_conv.fc_layer.bias'
    weights = model.state_dict()
    _, fit = fit_weights({key: value for key, value in weights.items() if key != name}, model)
    assert fit.missing == [name]
    assert fit_weights(weights, model)[1].fitting == fit.total


def test_nothing_is_known_of_something_else():
    assert in_words(read_architecture(dict(weight=(3, 4)))) == 'unknown'


DIGITS = 'deqdet/deqdet_digits{}.py'


def weights_of(config, **options):
    """Weights of a config's model."""
    return model_of(DIGITS.format(config), **options).state_dict()


class TestMasks:
    """Local mask heads use tensors with the names of those that no computation of a decoder layer uses."""

    NAME = 'roi_head.mask_head.0.instance_interactive_conv.dynamic_layer.weight'

    @pytest.mark.parametrize('kind', ['local', 'global'])
    def test_own_weights_fit(self, kind):
        model = model_of(DIGITS.format(f'_mask-{kind}'))
        fit = fit_weights(model.state_dict(), model)[1]
        assert fit.fitting == fit.total and not fit.extra and not fit.new_masks and not fit.ignored_masks

    def test_a_missing_tensor_of_a_mask_head(self):
        model = model_of(DIGITS.format('_mask-local'))
        weights = {name: value for name, value in model.state_dict().items() if name != self.NAME}
        fit = fit_weights(weights, model)[1]
        assert fit.missing == [self.NAME] and not fit.new_masks

    def test_masks_that_the_config_does_not_have(self):
        weights = weights_of('_mask-local')
        fit = fit_weights(weights, model_of(DIGITS.format('')))[1]
        assert fit.fitting == fit.total and fit.fits_but_for_masks
        assert self.NAME in fit.ignored_masks and set(fit.ignored_masks) == set(fit.extra)
        assert 'has no mask_head' in fit.hint() and not fit.of_another_architecture()

    def test_masks_that_the_file_does_not_have(self):
        model = model_of(DIGITS.format('_mask-local'))
        fit = fit_weights(weights_of(''), model)[1]
        assert fit.fits_but_for_masks and self.NAME in fit.new_masks
        assert fit.differences() == 'not in the file: the mask heads'
        assert fit.hint().startswith('the file has no mask heads: ') and 'load_from=FILE' in fit.hint()
        weights = weights_of('', **{'model.rpn_head.num_proposals': 9})
        fit = fit_weights(weights, model)[1]
        assert not fit.fits_but_for_masks
        assert '9 queries instead of 8' in fit.hint() and 'no mask heads' in fit.hint()
        assert 'the mask heads' in fit.differences() and 'init_proposal' in fit.differences()

    def test_masks_of_another_kind(self):
        fit = fit_weights(weights_of('_mask-local'), model_of(DIGITS.format('_mask-global')))[1]
        assert 'local masks (convolutions: 2 of 64 channels) instead of global masks (levels: 4, with ' \
            'position=True) (model.roi_head.mask_head)' in fit.hint()

    @pytest.mark.parametrize('position', [False, True])
    def test_global_masks_with_and_without_position(self, position):
        option = 'model.roi_head.mask_head.position'
        model = model_of(DIGITS.format('_mask-global'), **{option: position})
        fit = fit_weights(weights_of('_mask-global', **{option: not position}), model)[1]
        assert len(fit.of_another_architecture()) == 1 and 'position=True' in fit.hint()
        assert any('.place.' in name for name in (fit.missing if position else fit.extra))

    def test_another_number_of_classes(self):
        """Also local masks have a map for each class."""
        options = {f'model.roi_head.bbox_head.{number}.num_classes': 2 for number in (0, 1)}
        options['model.roi_head.mask_head.num_classes'] = 2
        fit = fit_weights(weights_of('_mask-local'), model_of(DIGITS.format('_mask-local'), **options))[1]
        assert '10 outputs of its classifiers instead of 2 (num_classes); set num_classes' in fit.hint()

    @pytest.mark.parametrize('changes, words', [
        (dict(type='DeCoupleHead', embed_dim=64), 'global masks (levels: 1)'),
        (dict(type='DeCoupleMLVLEHead', embed_dim=64, mlvl=3), 'global masks (levels: 3)'),
        (dict(type='DeCoupleMLVLEHead', embed_dim=64, share_filter=True),
         'global masks (levels: 4, with one filter)'),
        (dict(type='DeCoupleHead', embed_dim=64, position=True),
         'global masks (levels: 1, with position=True)')], ids=str)
    def test_kinds_in_words(self, changes, words):
        model = build(small_config(mask_head=changes))
        assert in_words(read_architecture(shapes_of(model.state_dict()))).endswith(f'; {words}')
