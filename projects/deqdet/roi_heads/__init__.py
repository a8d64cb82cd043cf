"""Decoder heads: wiring of layers, solver and criterion."""

from .deq import DEQDetRoIHead
from .deq_sparse_rcnn import DEQ_SparseRoIHead
from .stacked import FFNDetRoIHead

__all__ = ['DEQ_SparseRoIHead', 'DEQDetRoIHead', 'FFNDetRoIHead']
