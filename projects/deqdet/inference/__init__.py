"""Object detection with a trained model: in Python, in folders of images, in videos."""

from .inferencer import DEQDetInferencer
from .model_files import open_config
from .reading import Frame

__all__ = ['DEQDetInferencer', 'Frame', 'open_config']
