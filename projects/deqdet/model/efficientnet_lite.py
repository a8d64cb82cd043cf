"""EfficientNet-Lite0, a small backbone for CPUs, from mmdet's EfficientNet, and the names of its weights."""

import re
from itertools import accumulate
from typing import Any, Dict, Mapping, Sequence

from mmdet.models.backbones import EfficientNet
from mmdet.registry import MODELS
from mmengine.registry import MODELS as CONVOLUTIONS  # where mmcv looks them up
from torch import Tensor
from torch.nn import Conv2d
from torch.nn.functional import conv2d, pad

# Parts of an inverted residual block, by their names in the published weights.
_PARTS = dict(_expand_conv='expand_conv.conv', _bn0='expand_conv.bn', _depthwise_conv='depthwise_conv.conv',
              _bn1='depthwise_conv.bn', _project_conv='linear_conv.conv', _bn2='linear_conv.bn')
_STEM = dict(_conv_stem='layers.0.conv', _bn0='layers.0.bn')
# What follows the blocks: the last convolution and the classifier.
_HEAD = ('_conv_head', '_bn1', '_fc')


@CONVOLUTIONS.register_module()
class Conv2dSamePadding(Conv2d):
    """A convolution of stride 1 or 2 with an odd kernel that pads as TensorFlow's ``SAME``.

    mmcv's ``Conv2dAdaptivePadding`` computes the same for any stride, from terms of the image size for each
    convolution. An export for images of any size does not end with them. Here only stride 2 looks at the
    size, and only whether it is odd.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Convolve images of shape (B, C, H, W); the result has ``ceil(H / stride)`` rows."""
        if self.stride == (1, 1):
            return super().forward(images)
        rows, columns = (side // 2 for side in self.kernel_size)
        height, width = images.shape[-2:]
        padded = pad(images, (columns - 1 + width % 2, columns, rows - 1 + height % 2, rows))
        return conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)


@MODELS.register_module()
class EfficientNetLite(EfficientNet):
    """EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, with ReLU6.

    From the description of EfficientNet-Lite by its authors (TensorFlow, 2020). Convolutions pad as
    TensorFlow does: a level has ``ceil(side / stride)`` cells. The weights are for RGB images with mean 127
    and std 128. ``tools/get_weights.py`` gets them.

    Args:
        out_indices (Sequence[int]): Layers to output, 0 to 5. Default: those of strides 4, 8, 16 and 32,
            with 24, 40, 112 and 320 channels.
        **settings: As in mmdet's ``EfficientNet``: ``frozen_stages``, the number of first layers that do not
            learn (1: the stem; 3: all up to stride 4), ``norm_eval``, ``drop_path_rate`` (the authors train
            with 0.2), ``norm_cfg`` (default: eps 1e-3 and momentum 0.01, as the authors), ``with_cp``,
            ``init_cfg``.
    """

    layer_settings = dict(b=[
        [[kernel, channels, 0, *others] for kernel, channels, _, *others in layer]
        for layer in EfficientNet.layer_settings['b']])
    #: How to get the pretrained weights. The error shows it if their file is missing.
    weights_command = 'python tools/get_weights.py --out {}'

    def __init__(self, out_indices: Sequence[int] = (2, 3, 4, 5), **settings: Any) -> None:
        lite = dict(conv_cfg=dict(type='Conv2dSamePadding'), act_cfg=dict(type='ReLU6'),
                    norm_cfg=dict(type='BN', eps=1e-3, momentum=0.01))
        super().__init__('b0', out_indices=out_indices, **{**lite, **settings})
        # Freeze now: DDP and the optimiser look at the parameters before the training starts.
        self.train()


def converted(weights: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """Published weights of EfficientNet-Lite0 under the names of :class:`EfficientNetLite`.

    Args:
        weights (Mapping[str, Tensor]): With the names of the PyTorch package ``efficientnet_pytorch``, such
            as ``_blocks.3._bn1.weight``.

    Returns:
        dict[str, Tensor]: The same tensors, without the last convolution and the classifier.

    Raises:
        KeyError: If a name is unknown.
    """
    ends = list(accumulate(len(layer) for layer in EfficientNetLite.layer_settings['b'][1:-1]))
    found = {}
    for name, value in weights.items():
        part, _, rest = name.partition('.')
        if part in _HEAD:
            continue
        block = re.fullmatch(r'_blocks\.(\d+)\.(\w+)\.(\w+)', name)
        if block is None:
            found[f'{_STEM[part]}.{rest}'] = value
            continue
        number = int(block[1])
        layer = next(index for index, end in enumerate(ends) if number < end)
        first = ends[layer - 1] if layer else 0
        found[f'layers.{layer + 1}.{number - first}.{_PARTS[block[2]]}.{block[3]}'] = value
    return found
