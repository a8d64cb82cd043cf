"""Detecting objects with a trained model: in Python, in folders of pictures, in videos."""

from .configs import open_config
from .inferencer import DEQDetInferencer, Detected

__all__ = ['DEQDetInferencer', 'Detected', 'open_config']
