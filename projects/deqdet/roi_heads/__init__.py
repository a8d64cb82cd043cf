"""Decoder heads: wiring of layers, solver and criterion."""

from .deq import DEQDetRoIHead
from .stacked import FFNDetRoIHead

__all__ = ['DEQDetRoIHead', 'FFNDetRoIHead']
