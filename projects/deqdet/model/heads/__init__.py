"""Decoder heads: they connect layers, solver and criterion."""

from .deq import DEQDetRoIHead
from .deq_sparse_rcnn import DEQ_SparseRoIHead
from .prediction import PredictionSettings
from .stacked import FFNDetRoIHead

__all__ = ['DEQ_SparseRoIHead', 'DEQDetRoIHead', 'FFNDetRoIHead', 'PredictionSettings']
