"""One ONNX graph from the parts of a detector, with the refinement as a Loop.

::

    images, sizes -> front -> features, y0 -> Loop(refinement), steps + 1 times -> selection -> detections

Torch's exporter would write each application of the refinement layer again, for a fixed number of steps. The
Loop of ONNX contains the recorded refinement once, as its body.
"""

from typing import TYPE_CHECKING, Dict, List, Mapping, Tuple, Union

from ..errors import UsageError
from .parts import Parts
from .recording import MASKS, OUTPUTS, STATE, prefixed

if TYPE_CHECKING:
    import onnx

#: Value of ``steps`` if the number of steps is an input of the file.
GIVEN = 'given'

# Largest size of a protobuf in bytes, so of a model in a single file.
_LARGEST = 2 ** 31 - 1


def join_parts(parts: Parts, *, steps: Union[int, str], unroll: bool = False,
               traced: bool = False, metadata: Mapping[str, str] = {}) -> 'onnx.ModelProto':
    """Join the parts to one model.

    Args:
        parts (Parts): Result of :func:`record_parts`.
        steps (int or str): Refinements before the last one, as in ``refinement_steps``, or :data:`GIVEN`:
            then the model has an input ``steps``, int64 without dimensions. Not used for a stacked decoder.
        unroll (bool): Do not use a Loop: write the refinement ``steps`` + 1 times, and its weights once.
        traced (bool): Also output the features, y_0, and the states after each refinement, see
            :func:`trace_outputs`. Nodes and weights of the rest are the same.
        metadata (Mapping[str, str]): Content of ``metadata_props``.

    Returns:
        onnx.ModelProto: Inputs ``images``, ``sizes`` and, if given, ``steps``; outputs ``boxes``, ``scores``,
        ``labels`` and, with masks, ``masks``.

    Raises:
        UsageError: If ``unroll`` is set without a number of steps, or the model is too large for one file.
    """
    import onnx
    from onnx import helper
    front, selection = parts.front.graph, parts.selection.graph
    graph = onnx.GraphProto(name='detector')
    graph.input.extend(_with_sides(value) for value in front.input)
    _append(graph, front, 'front', {value.name: value.name for value in front.input})
    # Names of the next part's inputs in the graph.
    state = {name: f'front/start_{name}' for name in STATE}
    features = {value.name: f'front/{value.name}' for value in front.output
                if value.name.startswith('feature_')}
    if parts.refinement is not None:
        if steps == GIVEN:
            graph.input.append(helper.make_tensor_value_info('steps', onnx.TensorProto.INT64, []))
        join = _unrolled if unroll else _looped
        state = join(graph, parts.refinement.graph, features, state, steps, traced)
    kept = {name: name for name in (*OUTPUTS, MASKS)}
    _append(graph, selection, 'selection', {**features, **{name: state[name] for name in STATE[1:]}, **kept})
    graph.output.extend(_with_sides(value) for value in selection.output)
    if traced:
        graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
                            for names in trace_outputs(len(features)) for name in names)
    model = helper.make_model(graph, opset_imports=_opsets(parts), ir_version=parts.front.ir_version,
                              producer_name='deqdet', producer_version=metadata.get('deqdet_version', ''))
    helper.set_model_props(model, dict(metadata))
    if model.ByteSize() > _LARGEST:
        raise UsageError(f'the model has {model.ByteSize() / 1e9:.1f} GB, but an ONNX file can have at most '
                         f'{_LARGEST / 1e9:.1f} GB: use a smaller model', 'export-unsupported')
    return model


def trace_outputs(levels: int) -> Tuple[List[str], List[str], List[str]]:
    """Names of the additional outputs of a traced model with L feature levels.

    Returns:
        tuple: Features, parts of y_0, and parts of the states after all T refinements, which have T as their
        first dimension.
    """
    return ([f'front/feature_{level}' for level in range(levels)], prefixed('front/start', STATE),
            [f'path/{name}' for name in STATE])


def _looped(graph, refinement, features, state, steps, traced) -> Dict[str, str]:
    """Append a Loop over the refinement; return the names of the state after it."""
    import onnx
    from onnx import helper
    number = onnx.TensorProto.INT64
    if steps == GIVEN:
        graph.initializer.append(helper.make_tensor('refinement/one', number, [], [1]))
        graph.node.append(helper.make_node(
            'Add', ['steps', 'refinement/one'], ['refinement/count'], 'refinement/count'))
    else:
        graph.initializer.append(helper.make_tensor('refinement/count', number, [], [steps + 1]))
    body = onnx.GraphProto(name='refinement')
    body.input.extend([
        helper.make_tensor_value_info('refinement/iteration', number, []),
        helper.make_tensor_value_info('refinement/go_on', onnx.TensorProto.BOOL, [])])
    names = {**features}
    types = {value.name: _with_sides(value).type for value in refinement.output}
    for name in STATE:
        # An output is the input of the next iteration, so both have the same type.
        body.input.append(helper.make_value_info(f'refinement/{name}', types[f'next_{name}']))
        names[name] = f'refinement/{name}'
    # Weights are in the body, because runtimes look there for constants to prepare.
    _append(body, refinement, 'refinement', names)
    body.node.append(helper.make_node(
        'Identity', ['refinement/go_on'], ['refinement/still'], 'refinement/still'))
    body.output.append(helper.make_tensor_value_info('refinement/still', onnx.TensorProto.BOOL, []))
    body.output.extend(
        helper.make_value_info(f'refinement/next_{name}', types[f'next_{name}']) for name in STATE)
    after = {name: f'equilibrium/{name}' for name in STATE}
    path = [f'path/{name}' for name in STATE] if traced else []
    for name in STATE if traced else ():
        # A Loop collects additional outputs of its body over the iterations.
        each = f'refinement/each_{name}'
        body.node.append(helper.make_node('Identity', [f'refinement/next_{name}'], [each], each))
        body.output.append(helper.make_tensor_value_info(each, onnx.TensorProto.FLOAT, None))
    graph.node.append(helper.make_node(
        'Loop', ['refinement/count', '', *state.values()], [*after.values(), *path], 'refinement', body=body))
    return after


def _unrolled(graph, refinement, features, state, steps, traced) -> Dict[str, str]:
    """Append the refinement steps + 1 times; return the names of the state after it."""
    from onnx import helper
    if steps == GIVEN:
        raise UsageError('--unroll needs a fixed number of steps: add --steps N, or remove --unroll',
                         'missing-argument')
    weights = {tensor.name: f'refinement/{tensor.name}' for tensor in refinement.initializer}
    for step in range(steps + 1):
        prefix = f'refinement_{step}'
        _append(graph, refinement, prefix, {**weights, **features, **state}, weights=step == 0)
        state = {name: f'{prefix}/next_{name}' for name in STATE}
    for name in STATE if traced else ():
        each = [f'refinement_{step}/next_{name}' for step in range(steps + 1)]
        graph.node.extend([
            helper.make_node('SequenceConstruct', each, [f'path/list_{name}']),
            helper.make_node('ConcatFromSequence', [f'path/list_{name}'], [f'path/{name}'], axis=0,
                             new_axis=1)])
    return state


def _with_sides(value):
    """An input or output with clear names for its dynamic dimensions."""
    import onnx
    new = onnx.ValueInfoProto()
    new.CopyFrom(value)
    prefix = 'mask_' if value.name == MASKS else ''
    names = ('batch', None, f'{prefix}height', f'{prefix}width')
    for side, name in zip(new.type.tensor_type.shape.dim, names):
        if side.dim_param:
            side.dim_param = name
    return new


def _append(graph, part, prefix: str, names: Mapping[str, str], *, weights: bool = True) -> None:
    """Append nodes and weights of a part; its values get the given names, or a prefix."""

    def named(name: str) -> str:
        return names.get(name) or (name and f'{prefix}/{name}')

    for node in part.node:
        _rename(graph.node.add(), node, named)
    # A recorded part contains all weights of its module, also those that only another part uses.
    used = {name for node in part.node for name in node.input} if weights else ()
    for tensor in part.initializer:
        if tensor.name in used:
            graph.initializer.add().CopyFrom(tensor)
            graph.initializer[-1].name = named(tensor.name)


def _rename(new, node, named) -> None:
    new.CopyFrom(node)
    new.name = named(node.name)
    # torch stores the origin of a node here, with the names of folders on this machine.
    del new.metadata_props[:]
    new.input[:] = [named(name) for name in node.input]
    new.output[:] = [named(name) for name in node.output]
    for attribute in new.attribute:
        for inner in [attribute.g] if attribute.HasField('g') else attribute.graphs:
            for each in inner.node:
                _rename(each, type(each).FromString(each.SerializeToString()), named)
            for value in [*inner.input, *inner.output, *inner.initializer, *inner.value_info]:
                value.name = named(value.name)


def _opsets(parts: Parts) -> List:
    """The operator sets of all parts; in one export they are the same."""
    from onnx import helper
    versions = {opset.domain: opset.version for part in parts if part is not None
                for opset in part.opset_import}
    return [helper.make_opsetid(domain, version) for domain, version in sorted(versions.items())]
