"""Eight bits: the convolutions of backbone and neck, and the linear layers of the refinement.

The ranges of the convolutions' values are measured on images. Those of the refinement are taken anew at every
application, since a state far from its equilibrium has other ranges than one near it. Sampling, positions,
norms and softmax stay in float32.
"""

import os
from tempfile import TemporaryDirectory
from typing import Dict, Sequence

import numpy as np

from .packages import quiet
from .recording import RecordedParts


def quantise_parts(parts: RecordedParts, batches: Sequence[Dict[str, np.ndarray]]) -> RecordedParts:
    """The same parts in eight bits.

    Args:
        parts (RecordedParts): Those of :func:`record_parts`. They stay as they are.
        batches (Sequence[dict]): Inputs of some images, see :func:`inputs_of`, to measure ranges on.

    Returns:
        RecordedParts: To be joined by :func:`join_parts`.
    """
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        """Hands out the batches."""

        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self):
            return next(self.left, None)

    # onnxruntime advises to optimise before quantising: torch's exporter has done it.
    with TemporaryDirectory() as folder, quiet(''):
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
