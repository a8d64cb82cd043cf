"""What mmengine's data preprocessor knows about itself and keeps in a private member."""

from mmdet.models.data_preprocessors import DetDataPreprocessor


def swaps_channels(preprocessor: DetDataPreprocessor) -> bool:
    """Whether BGR images become RGB, or RGB images BGR."""
    return preprocessor._channel_conversion
