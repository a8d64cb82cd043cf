"""What mmdet's data preprocessor does to images."""

from mmdet.models import DetDataPreprocessor


def exchanges_channels(preprocessor: DetDataPreprocessor) -> bool:
    """Whether it makes RGB of BGR, or BGR of RGB."""
    return preprocessor._channel_conversion
