"""Object detection with a trained model: in Python, in folders of images, in videos."""

from .inferencer import DEQDetInferencer
from .model_files import open_config
from .streams import Detected

__all__ = ['DEQDetInferencer', 'Detected', 'open_config']
