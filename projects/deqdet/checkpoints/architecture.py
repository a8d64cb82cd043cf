"""Reads the kind of detector from the names and shapes of its weights: many files hold nothing else."""

import re
from collections import Counter
from typing import Any, Dict, List, Mapping, Optional, Tuple

# Depth by blocks per stage: of blocks with three convolutions (`conv3`), and of those with two.
_BOTTLENECKS: Dict[Tuple[int, ...], int] = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
_BASIC: Dict[Tuple[int, ...], int] = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34}

# Start of the names of a ResNet's or Swin's blocks: stage and number.
_BLOCK = re.compile(r'^backbone\.(?:layer|stages\.)(\d)\.(?:blocks\.)?(\d+)\.(?:conv1|attn)\.', re.M)
_OFFSETS = 'sampling_n_mixing.sampling_offset_generator.0.weight'
_CLASSIFIER = re.compile(r'(^|[._])(fc_cls|conv_cls|retina_cls|cls|atss_cls|conv_logits)\.(weight|bias)$')

# Words and config key of each property, with a remark on its most common mistake.
_PROPERTIES = dict(
    backbone=('{}', 'model.backbone'),
    feat_channels=('{} channels of the features', 'model.neck.out_channels and feat_channels of bbox_head'),
    queries=('{} queries', 'model.rpn_head.num_proposals; the released 1x model of R50 has 100 queries, the '
             '2x models have 300'),
    content_dim=('content vectors of width {}',
                 'model.rpn_head.proposal_feature_channel and content_dim of bbox_head'),
    layers=('{} decoder layers',
            'model.roi_head; DEQDetRoIHead has 2 layers, FFNDetRoIHead num_stages of them'),
    in_points=('sampling points {}', 'in_points of bbox_head; the released models have 64 in both layers, '
               'the p64-32 configs 32 in the second'),
    out_points=('mixing points {}', 'out_points of bbox_head'),
    groups=('groups {}', 'n_groups of bbox_head'),
    feedforward_channels=('hidden width of the FFN {}', 'feedforward_channels of bbox_head'),
    classes=('{} outputs of its classifiers', 'num_classes'),
    masks=('{}', 'model.roi_head.mask_head'))


def is_classifier(name: str) -> bool:
    """Whether a tensor is a weight or bias of a layer whose outputs are classes."""
    return _CLASSIFIER.search(name) is not None


def is_of_masks(name: str) -> bool:
    """Whether a tensor belongs to a mask head."""
    return 'mask_head' in name.split('.')


def read_architecture(shapes: Mapping[str, tuple]) -> Dict[str, Any]:
    """The architecture behind a state dict.

    Args:
        shapes (Mapping[str, tuple]): Shape of each tensor by its name.

    Returns:
        dict[str, Any]: The known properties, by the names of ``_PROPERTIES``: a number, a text, or a tuple
            for layers and classifiers. Mask heads of all layers have one kind. Stages of Sparse R-CNN do not
            count as layers: its DEQ form has one.
    """
    queries, content_dim = shapes.get('rpn_head.init_proposal_features.weight', (None, None))
    channels = shapes.get('neck.gn_out.weight', (None, ))[0]
    layers = [name[:-len(_OFFSETS)] for name in shapes
              if name.startswith('roi_head.bbox_head.') and name.endswith(_OFFSETS)]
    mixing = [points for points in (_mixing(shapes, layer, channels) for layer in layers) if points]
    in_points, out_points, groups = zip(*mixing) if mixing else ((), (), ())
    hidden = [shapes.get(f'{layer}ffn.layers.0.0.weight', ())[:1] for layer in layers]
    classes = {shape[0] for name, shape in shapes.items() if is_classifier(name) and shape}
    found = dict(backbone=_backbone(shapes), feat_channels=channels, queries=queries, content_dim=content_dim,
                 layers=len(layers), in_points=in_points, out_points=out_points, groups=groups,
                 feedforward_channels=sum(hidden, ()), classes=tuple(sorted(classes)),
                 masks=_masks(shapes))
    return {name: value for name, value in found.items() if value}


def in_words(architecture: Mapping[str, Any]) -> str:
    """An architecture, see :func:`read_architecture`, in one line."""
    return '; '.join(_PROPERTIES[name][0].format(_shown(value))
                     for name, value in architecture.items()) or 'unknown'


def differences(file: Mapping[str, Any], model: Mapping[str, Any]) -> List[str]:
    """Properties in which the architectures of a file and of a model, see :func:`read_architecture`, differ.

    Returns:
        list[str]: One clause per difference, with the config key to look at. Both must have the property.
    """
    found = []
    for name in [name for name in file if name in model]:
        theirs, ours = file[name], model[name]
        # If one has an additional layer of the same kind, only the number of layers differs.
        layered = isinstance(theirs, tuple) and name != 'classes'
        if theirs != ours and not (layered and theirs[:len(ours)] == ours[:len(theirs)]):
            words, key = _PROPERTIES[name]
            also = 'another number of classes, ' if name == 'classes' else ''
            found.append(f'{also}{words.format(_shown(theirs))} instead of {_shown(ours)} ({key})')
    return found


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ', '.join(map(str, value if len(set(value)) > 1 else value[:1]))
    return str(value)


def _mixing(shapes, layer, channels) -> Optional[Tuple[int, int, int]]:
    """P_in, P_out and G, from the widths 3 G P_in, C_f^2 / G + G P_in P_out and P_out C_f."""
    offsets = shapes[f'{layer}{_OFFSETS}']
    generated, mixed = (shapes.get(f'{layer}sampling_n_mixing.adaptive_mixing.{name}.weight')
                        for name in ('parameter_generator.0', 'out_proj'))
    if not (channels and generated and mixed):
        return None
    points, out_points = offsets[0] // 3, mixed[1] // channels
    groups = channels ** 2 // max(generated[0] - points * out_points, 1)
    return (points // groups, out_points, groups) if groups else None


def _masks(shapes) -> Optional[str]:
    """Kind and size of the mask heads."""
    first = 'roi_head.mask_head.0.'
    if f'{first}mask_embed.0.weight' in shapes:
        levels = shapes.get(f'{first}mlvl_weight_generator.0.weight', (1, ))[0]
        shared = levels > 1 and f'{first}mask_embed.1.weight' not in shapes
        placed = f'{first}place.0.embed.weight' in shapes
        return (f'global masks (levels: {levels}{", with one filter" if shared else ""}'
                f'{", with position=True" if placed else ""})')
    if f'{first}instance_interactive_conv.dynamic_layer.weight' in shapes:
        convs = [shape for name, shape in shapes.items()
                 if re.fullmatch(re.escape(first) + r'convs\.\d+\.conv\.weight', name)]
        channels = f' of {convs[0][0]} channels' if convs else ''
        return f'local masks (convolutions: {len(convs)}{channels})'
    return None


def _backbone(shapes) -> Optional[str]:
    """Kind, depth and width of a ResNet or Swin."""
    blocks = set(re.findall(_BLOCK, '\n'.join(shapes)))
    depths = tuple(number for _, number in sorted(Counter(stage for stage, _ in blocks).items()))
    embedding = shapes.get('backbone.patch_embed.projection.weight')
    if not blocks:
        return None
    if embedding:
        return f'Swin of width {embedding[0]} and depths {"-".join(map(str, depths))}'
    known = _BOTTLENECKS if 'backbone.layer1.0.conv3.weight' in shapes else _BASIC
    width = shapes.get('backbone.layer1.0.conv1.weight', (64, ))[0]
    return f'ResNet-{known.get(depths) or "-".join(map(str, depths))}' + (
        f' of width {width}' if width != 64 else '')
