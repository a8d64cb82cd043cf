"""Quantisation to eight bits: convolutions of backbone and neck, and linear layers of the refinement.

The ranges of the convolutions' values are measured on images. Each application of the refinement measures its
ranges again, because they change on the way to the equilibrium. Sampling, positions, norms and softmax stay
in float32.
"""

import os
from tempfile import TemporaryDirectory
from typing import Dict, Sequence

import numpy as np

from .packages import quiet
from .parts import Parts


def quantise_parts(parts: Parts, batches: Sequence[Dict[str, np.ndarray]]) -> Parts:
    """Quantise parts to eight bits.

    Args:
        parts (Parts): Result of :func:`record_parts`. It is not changed.
        batches (Sequence[dict]): Inputs of some images, see :func:`inputs_of`, to measure ranges on.

    Returns:
        Parts: Input of :func:`join_parts`.
    """
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        """Returns the batches one by one."""

        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self):
            return next(self.left, None)

    # onnxruntime recommends optimising before quantising; torch's exporter has already done that.
    with TemporaryDirectory() as folder, quiet():
        source, target = os.path.join(folder, 'float.onnx'), os.path.join(folder, 'int8.onnx')
        onnx.save(parts.front, source)
        quantization.quantize_static(
            source, target, Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=['Conv'])
        parts = parts._replace(front=onnx.load(target))
        if parts.refinement is not None:
            onnx.save(parts.refinement, source)
            quantization.quantize_dynamic(
                source, target, op_types_to_quantize=['MatMul', 'Gemm'], per_channel=True,
                weight_type=quantization.QuantType.QInt8)
            parts = parts._replace(refinement=onnx.load(target))
    return parts
