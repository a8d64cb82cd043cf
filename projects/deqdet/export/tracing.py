"""The intermediate states of a file, to compare them one by one."""

from typing import TYPE_CHECKING, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageError
from ..model.state import DecoderState
from .agreement import Detections, fixed_shape, open_file, session_inputs
from .recording import OUTPUTS, STATE

if TYPE_CHECKING:
    import onnx

_FEATURE, _START = 'front/feature_', 'front/start_'


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

    It has the nodes and weights of the file, and more outputs.

    Args:
        model (onnx.ModelProto): Result of :func:`join_parts` for a deep equilibrium. It is not changed.

    Raises:
        UsageError: If it has no refinement, or onnxruntime cannot open it.
    """

    def __init__(self, model: 'onnx.ModelProto') -> None:
        self.names, self.looped = _states_of(model.graph)
        if len(self.names) == 1:
            raise UsageError('the file has no refinement, so it has no states to compare: compare the '
                             'detections of a stacked decoder', 'unsupported-decoder')
        self.features = sorted({
            name for node in model.graph.node for name in node.output if name.startswith(_FEATURE)})
        self.session = open_file(_with_states(model, self.features, self.names, self.looped))
        #: Height and width of its images; None if the file takes any size.
        self.shape = fixed_shape(self.session)

    def run(self, images: Sequence[np.ndarray], *, divisor: int, steps: int) -> Trace:
        """Run the file on a batch; for the arguments see :func:`run_file`."""
        inputs = session_inputs(self.session, images, divisor, steps)
        # onnxruntime does not accept the same name twice.
        wanted = dict.fromkeys([*OUTPUTS, *self.features, *(name for names in self.names for name in names)])
        found = dict(zip(wanted, self.session.run(list(wanted), inputs)))

        def state(names: Sequence[str]) -> List[Tensor]:
            return [torch.from_numpy(found[name]) for name in names]

        start, *rest = self.names
        states = [DecoderState(*state(start))]
        if self.looped:
            states += [DecoderState(*parts) for parts in zip(*state(rest[0]))]
        else:
            states += [DecoderState(*state(names)) for names in rest]
        return Trace(state(self.features), states, list(zip(*(found[name] for name in OUTPUTS))))


def _states_of(graph) -> Tuple[List[List[str]], bool]:
    """Names of the parts of y_0 and of the later states, and whether a Loop outputs all later states."""
    names = [[f'{_START}{part}' for part in STATE]]
    if any(node.op_type == 'Loop' for node in graph.node):
        return [*names, [f'path/{part}' for part in STATE]], True
    made = {name for node in graph.node for name in node.output}
    count = sum(name.startswith('refinement_') and name.endswith(f'/next_{STATE[0]}') for name in made)
    return [*names, *([f'refinement_{step}/next_{part}' for part in STATE] for step in range(count))], False


def _with_states(model, features: Sequence[str], names: Sequence[Sequence[str]], looped: bool) -> bytes:
    import onnx
    from onnx import helper
    traced = onnx.ModelProto()
    traced.CopyFrom(model)
    floats = onnx.TensorProto.FLOAT
    if looped:
        loop, = (node for node in traced.graph.node if node.op_type == 'Loop')
        body, = (attribute.g for attribute in loop.attribute if attribute.name == 'body')
        carried: Dict[str, str] = dict(zip(STATE, (value.name for value in body.output[1:])))
        for part, name in zip(STATE, names[1]):
            # A Loop collects additional outputs of its body over the iterations.
            body.node.append(helper.make_node('Identity', [carried[part]], [f'each/{part}'], f'each/{part}'))
            body.output.append(helper.make_tensor_value_info(f'each/{part}', floats, None))
            loop.output.append(name)
    known = {value.name for value in traced.graph.output}
    wanted = dict.fromkeys([*features, *(name for group in names for name in group)])
    traced.graph.output.extend(
        helper.make_tensor_value_info(name, floats, None) for name in wanted if name not in known)
    return traced.SerializeToString()
