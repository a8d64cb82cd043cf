"""What kind of detector a set of weights is of, read from names and shapes alone."""

import re
from collections import Counter
from dataclasses import dataclass, fields
from typing import Any, Dict, List, Mapping, Optional, Tuple

Shapes = Mapping[str, tuple]

# Blocks a stage, and whether they have three convolutions instead of two.
_RESNETS: Dict[Tuple[Tuple[int, ...], bool], int] = {
    ((2, 2, 2, 2), False): 18, ((3, 4, 6, 3), False): 34, ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101, ((3, 8, 36, 3), True): 152}

_CLASSIFIER = re.compile(r'(^|[._])(fc_cls|conv_cls|retina_cls|cls|atss_cls)\.(weight|bias)$')


@dataclass(frozen=True)
class Architecture:
    """What can be read from the weights; None and () where a detector has no such part.

    Attributes:
        backbone (str, optional): Kind, depth and width.
        feat_channels (int, optional): Channels of the neck's features.
        queries (int, optional): Number of queries.
        content_dim (int, optional): Width of the content vectors.
        layers (int, optional): Decoder layers of DEQDet or a stacked decoder. The stages of Sparse R-CNN
            are not counted: in its DEQ form they are one.
        in_points (tuple[int]): Sampling points of a group, for each of these layers.
        out_points (tuple[int]): Mixing points, likewise.
        groups (tuple[int]): Groups, likewise.
        feedforward_channels (tuple[int]): Hidden width of the FFN, likewise.
        classes (tuple[int]): Outputs of the classifiers, without repetition.
    """

    backbone: Optional[str] = None
    feat_channels: Optional[int] = None
    queries: Optional[int] = None
    content_dim: Optional[int] = None
    layers: Optional[int] = None
    in_points: Tuple[int, ...] = ()
    out_points: Tuple[int, ...] = ()
    groups: Tuple[int, ...] = ()
    feedforward_channels: Tuple[int, ...] = ()
    classes: Tuple[int, ...] = ()

    def __str__(self) -> str:
        """In words, without what is not known."""
        return '; '.join(_in_words(field.name, getattr(self, field.name)) for field in fields(self)
                         if getattr(self, field.name)) or 'unknown'


def is_classifier(name: str) -> bool:
    """Whether a tensor is weight or bias of a layer whose outputs are classes."""
    return _CLASSIFIER.search(name) is not None


def read_architecture(shapes: Shapes) -> Architecture:
    """The architecture behind a state dict.

    Args:
        shapes (Mapping[str, tuple]): Shape of each tensor by its name.

    Returns:
        Architecture: What is known of it.
    """
    queries, content_dim = shapes.get('rpn_head.init_proposal_features.weight', (None, None))
    numbers = {int(found[1]) for found in (
        re.match(r'roi_head\.bbox_head\.(\d+)\.sampling_n_mixing\.', name) for name in shapes) if found}
    features = shapes.get('neck.gn_out.weight', (None, ))
    layers = [f'roi_head.bbox_head.{number}.' for number in sorted(numbers)]
    mixing = [points for points in (_mixing(shapes, layer, features[0]) for layer in layers) if points]
    in_points, out_points, groups = zip(*mixing) if mixing else ((), (), ())
    hidden = [shapes.get(f'{layer}ffn.layers.0.0.weight') for layer in layers]
    classes = {shape[0] for name, shape in shapes.items() if is_classifier(name) and shape}
    return Architecture(
        backbone=_resnet(shapes) or _swin(shapes), feat_channels=features[0], queries=queries,
        content_dim=content_dim, layers=len(layers) or None, in_points=in_points, out_points=out_points,
        groups=groups, feedforward_channels=tuple(shape[0] for shape in hidden if shape),
        classes=tuple(sorted(classes)))


def differences(file: Architecture, model: Architecture) -> List[str]:
    """Where a file differs from a model in what both are known to have, with the config key to look at.

    Args:
        file (Architecture): Of the file.
        model (Architecture): Of the config's model.

    Returns:
        list[str]: One clause a difference.
    """
    found = []
    for field in fields(file):
        theirs, ours = getattr(file, field.name), getattr(model, field.name)
        if not theirs or not ours or theirs == ours:
            continue
        # One more layer of the same kind is a difference of the layers alone.
        if (isinstance(theirs, tuple) and field.name != 'classes'
                and theirs[:len(ours)] == ours[:len(theirs)]):
            continue
        also = 'another number of classes, ' if field.name == 'classes' else ''
        found.append(f'{also}{_in_words(field.name, theirs)} instead of {_value(ours)} '
                     f'({_KEYS[field.name]}{_remark(field.name, theirs, ours)})')
    return found


_WORDS = dict(
    backbone='{}', feat_channels='{} channels of the features', queries='{} queries',
    content_dim='content vectors of width {}', layers='{} decoder layers',
    in_points='sampling points {}', out_points='mixing points {}', groups='groups {}',
    feedforward_channels='hidden width of the FFN {}', classes='{} outputs of its classifiers')

_KEYS = dict(
    backbone='model.backbone', feat_channels='model.neck.out_channels and feat_channels of bbox_head',
    queries='model.rpn_head.num_proposals',
    content_dim='model.rpn_head.proposal_feature_channel and content_dim of bbox_head',
    layers='model.roi_head', in_points='in_points of bbox_head', out_points='out_points of bbox_head',
    groups='n_groups of bbox_head', feedforward_channels='feedforward_channels of bbox_head',
    classes='num_classes')


def _in_words(name, value):
    return _WORDS[name].format(_value(value))


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return ', '.join(map(str, value)) if len(set(value)) > 1 else str(value[0])
    return str(value)


def _remark(name, theirs, ours) -> str:
    """The likely mistake among the released models and configs."""
    if name == 'queries' and {theirs, ours} == {100, 300}:
        return '; the released 1x model of R50 has 100 queries, the 2x models have 300'
    if name == 'in_points' and 32 in theirs + ours and 64 in theirs + ours:
        return '; the released models have 64 in both layers, the p64-32 configs 32 in the second'
    if name == 'layers':
        return '; DEQDetRoIHead has 2 layers, FFNDetRoIHead num_stages of them'
    return ''


def _mixing(shapes, layer, channels) -> Optional[Tuple[int, int, int]]:
    """P_in, P_out and G, from widths in which G appears as 3 G P_in, C_f^2 / G + G P_in P_out, P_out C_f."""
    mixing = f'{layer}sampling_n_mixing.'
    offsets = shapes.get(f'{mixing}sampling_offset_generator.0.weight')
    generated = shapes.get(f'{mixing}adaptive_mixing.parameter_generator.0.weight')
    mixed = shapes.get(f'{mixing}adaptive_mixing.out_proj.weight')
    if not (channels and offsets and generated and mixed):
        return None
    out_points = mixed[1] // channels
    points = offsets[0] // 3
    channel_weights = generated[0] - points * out_points
    groups = channels ** 2 // channel_weights if channel_weights > 0 else 0
    return (points // groups, out_points, groups) if groups else None


def _resnet(shapes) -> Optional[str]:
    blocks = {found.groups() for found in (
        re.match(r'backbone\.layer(\d)\.(\d+)\.conv1\.weight', name) for name in shapes) if found}
    stages = Counter(stage for stage, _ in blocks)
    if not stages:
        return None
    counts = tuple(stages[stage] for stage in sorted(stages))
    depth = _RESNETS.get((counts, 'backbone.layer1.0.conv3.weight' in shapes), '-'.join(map(str, counts)))
    width = shapes['backbone.layer1.0.conv1.weight'][0] if '1' in stages else 64
    return f'ResNet-{depth}' + (f' of width {width}' if width != 64 else '')


def _swin(shapes) -> Optional[str]:
    embedding = shapes.get('backbone.patch_embed.projection.weight')
    blocks = {found.groups() for found in (
        re.match(r'backbone\.stages\.(\d)\.blocks\.(\d+)\.', name) for name in shapes) if found}
    stages = Counter(stage for stage, _ in blocks)
    if not embedding or not stages:
        return None
    return f'Swin of width {embedding[0]} and depths {"-".join(str(stages[s]) for s in sorted(stages))}'
