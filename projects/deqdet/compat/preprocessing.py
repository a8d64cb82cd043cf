"""The channel order in mmdet's data preprocessor."""

from mmdet.models import DetDataPreprocessor


def exchanges_channels(preprocessor: DetDataPreprocessor) -> bool:
    """Whether it converts BGR to RGB, or RGB to BGR."""
    return preprocessor._channel_conversion
