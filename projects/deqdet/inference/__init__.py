"""Detecting objects with a trained model: in Python, in folders of pictures, in videos."""

from .configs import find_config, open_config
from .inferencer import DEQDetInferencer, Detected

__all__ = ['DEQDetInferencer', 'Detected', 'find_config', 'open_config']
