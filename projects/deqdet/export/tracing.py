"""The intermediate states of a file, to compare them one by one."""

from typing import TYPE_CHECKING, List, NamedTuple, Sequence

import numpy as np
import torch
from torch import Tensor

from ..model.state import DecoderState
from .agreement import Detections, fixed_shape, open_file, session_inputs
from .joining import trace_outputs
from .recording import OUTPUTS

if TYPE_CHECKING:
    import onnx


class Trace(NamedTuple):
    """Intermediate results of a file, and its detections.

    Attributes:
        features (list[Tensor]): L maps, has shape (B, C_f, H_l, W_l).
        states (list[DecoderState]): y_0, and the output of each refinement.
        detections (list[tuple]): Boxes, scores and labels of each image.
    """

    features: List[Tensor]
    states: List[DecoderState]
    detections: List[Detections]


class TracedFile:
    """A file that also outputs its features and states.

    Args:
        model (onnx.ModelProto): Result of :func:`join_parts` with ``traced``, for a deep equilibrium.

    Raises:
        UsageError: If onnxruntime cannot open it.
    """

    def __init__(self, model: 'onnx.ModelProto') -> None:
        self.session = open_file(model.SerializeToString())
        #: Height and width of its images; None if the file takes any size.
        self.shape = fixed_shape(self.session)

    def run(self, images: Sequence[np.ndarray], *, divisor: int, steps: int) -> Trace:
        """Run the file on a batch; for the arguments see :func:`run_file`."""
        inputs = session_inputs(self.session, images, divisor, steps)
        names = [output.name for output in self.session.get_outputs()]
        found = dict(zip(names, self.session.run(names, inputs)))
        features, start, path = (
            [torch.from_numpy(found[name]) for name in group]
            for group in trace_outputs(sum(name.startswith('front/feature_') for name in names)))
        return Trace(features, [DecoderState(*start), *(DecoderState(*parts) for parts in zip(*path))],
                     list(zip(*(found[name] for name in OUTPUTS))))
