"""Records the parts of a detector with torch.export, and converts them to ONNX."""

from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

import torch
from mmdet.models.backbones import SwinTransformer
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..errors import UsageError, first_line
from .packages import TRIED, WRITING, quiet, require_exporter, require_packages
from .parts import MaskedSelection, Parts, split_detector
from .pooling import translations

if TYPE_CHECKING:
    import onnx

#: Lowest and default version of ONNX's operators: that of torch's exporter. GridSample exists since 16.
OPSET = 18

STATE = ('position', 'content', 'box', 'logits')
INPUTS = ('images', 'sizes')
OUTPUTS = ('boxes', 'scores', 'labels')
#: A further output of a detector with masks.
MASKS = 'masks'


def record_refinement(model: BaseModel, *, dynamic: bool = True,
                      shape: Tuple[int, int] = (128, 160)) -> ExportedProgram:
    """Record the refinement layer with torch.export.

    Args:
        model (BaseModel): A detector with a deep equilibrium. It is set to eval mode.
        dynamic (bool): Allow any number of images and any size of the features; otherwise one image.
        shape (tuple[int, int]): Height and width of the images to compute features from.

    Returns:
        ExportedProgram: From a list of features, position, content and box to position, content, box and
        logits, see :class:`RecordedRefinement`.

    Raises:
        UsageError: If the decoder is not an equilibrium, or cannot be exported.
    """
    part = split_detector(model, masks=False).refinement
    if part is None:
        raise UsageError(f'{type(model.roi_head).__name__} has no refinement layer to export: export the '
                         'whole detector, as NAME.onnx', 'unsupported-decoder')
    return _record_refinement(model, part, shape, dynamic)


def record_parts(model: BaseModel, *, dynamic: bool = True, shape: Optional[Tuple[int, int]] = None,
                 opset: int = OPSET, masks: bool = True) -> Parts:
    """Record the parts of a detector as ONNX.

    Args:
        model (BaseModel): The detector. It is set to eval mode.
        dynamic (bool): Allow any number and size of images; otherwise one image of ``shape``.
        shape (tuple[int, int], optional): Height and width of the images to record with, multiples of
            :func:`size_divisor`.
        opset (int): Version of ONNX's operators.
        masks (bool): With masks, if the detector has mask heads.

    Returns:
        Parts: As ONNX, with the names of inputs and outputs of this module. Input of :func:`join_parts`.

    Raises:
        UsageError: If the detector cannot be exported with these arguments.
    """
    require_packages(WRITING)
    require_exporter()
    parts = split_detector(model, masks=masks)
    masked = isinstance(parts.selection, MaskedSelection)
    if dynamic and any(isinstance(module, SwinTransformer) for module in model.modules()):
        # torch.export would fail too, but after minutes and with a message that does not help.
        raise UsageError("mmdet's SwinTransformer can be exported only for one image of one size: use "
                         '--no-dynamic --shape HEIGHT WIDTH', 'export-unsupported')
    head = model.roi_head
    divisor = size_divisor(model)
    # Two images, and more than one cell on each level: torch would take a size of 1 for a constant.
    step = max(divisor, *head.featmap_strides)
    height, width = shape or (4 * step, 5 * step)
    for side in (height, width):
        if side < 1 or side % divisor:
            raise UsageError(f'images of {height} x {width} pixels: height and width must be multiples of '
                             f'{divisor} (model.data_preprocessor.pad_size_divisor)', 'bad-argument')
    count = 2 if dynamic else 1
    sizes = torch.tensor([[height, width]] * count)
    sizes[-1] -= 1
    arguments = (torch.rand(count, 3, height, width) * 255, sizes)
    batch = Dim('batch')
    dims: Optional[Dict[str, Any]] = None
    if dynamic:
        sides = [divisor * Dim(side) if divisor > 1 else Dim(side) for side in ('height', 'width')]
        dims = dict(images={0: batch, 2: sides[0], 3: sides[1]}, sizes={0: batch})
    names = [f'feature_{level}' for level in range(len(head.featmap_strides))]
    # torch's exporter mentions packages that this export does not need.
    with quiet():
        program = _record(parts.front, arguments, dims)
        if parts.refinement is None:
            outputs = [*names, *prefixed('start', STATE[1:])] if masked else prefixed('start', STATE[2:])
            front, refinement = _to_onnx(program, INPUTS, outputs, opset), None
        else:
            front = _to_onnx(program, INPUTS, [*names, *prefixed('start', STATE)], opset)
            program = _record_refinement(model, parts.refinement, (height, width), dynamic)
            refinement = _to_onnx(program, [*names, *STATE[:3]], prefixed('next', STATE), opset)
        queries, classes = model.rpn_head.num_proposals, head.bbox_head[-1].num_classes
        inputs: Dict[str, Any] = dict(
            box=torch.rand(count, queries, 4), logits=torch.rand(count, queries, classes))
        dims = {name: {0: batch} for name in inputs} if dynamic else None
        if masked:
            features = _features(model, count, (height, width))
            content = torch.rand(count, queries, head.bbox_head[-1].content_dim)
            inputs = dict(features=features, content=content, **inputs)
            dims = dims and dict(features=_dims_of(features, batch), content={0: batch}, **dims)
        program = _record(parts.selection, list(inputs.values()), dims)
        selection = _to_onnx(program, (*names, *STATE[1:]) if masked else STATE[2:],
                             (*OUTPUTS, MASKS) if masked else OUTPUTS, opset)
    return Parts(front, refinement, selection)


def size_divisor(model: BaseModel) -> int:
    """Height and width of a batch must be multiples of this number."""
    return max(1, int(model.data_preprocessor.pad_size_divisor))


def _record_refinement(model, part, shape, dynamic) -> ExportedProgram:
    count, queries = 2 if dynamic else 1, model.rpn_head.num_proposals
    features = _features(model, count, shape)
    corner, size = torch.rand(2, count, queries, 2) * min(shape) / 2
    arguments = (features, torch.rand(count, queries, 4),
                 torch.rand(count, queries, part.layer.content_dim),
                 torch.cat([corner, corner + size], dim=-1))
    dims = None
    if dynamic:
        batch = Dim('batch')
        dims = dict(features=_dims_of(features, batch), **{name: {0: batch} for name in STATE[:3]})
    return _record(part, arguments, dims)


def _features(model, count, shape) -> List[Tensor]:
    """Features of random images."""
    with torch.no_grad():
        return list(model.extract_feat(torch.rand(count, 3, *shape)))


def _dims_of(features, batch) -> List[dict]:
    """Free sizes of features."""
    return [{0: batch, 2: Dim(f'height_{level}'), 3: Dim(f'width_{level}')} for level in range(len(features))]


def _record(part: nn.Module, arguments: Sequence, dims: Optional[dict]) -> ExportedProgram:
    try:
        with torch.no_grad():
            return torch.export.export(part.eval(), tuple(arguments), dynamic_shapes=dims, strict=False)
    except (RuntimeError, ValueError) as error:
        words = first_line(error)[:300]
        if dims is None:
            raise UsageError(f'this detector cannot be exported: torch.export does not support a part of it '
                             f'({words}); use another backbone or neck', 'export-unsupported') from error
        raise UsageError(f'this detector cannot be exported for images of any size ({words}): use '
                         '--no-dynamic --shape HEIGHT WIDTH', 'export-unsupported') from error


def _to_onnx(program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str],
             opset: int) -> 'onnx.ModelProto':
    try:
        written = torch.onnx.export(
            program, (), dynamo=True, opset_version=opset, input_names=list(inputs),
            output_names=list(outputs), verbose=False, optimize=True,
            custom_translation_table=translations())
    except RuntimeError as error:  # all errors of the exporter are of this class
        raise UsageError(
            f'torch {torch.__version__} cannot write this detector as ONNX ({first_line(error)[:300]}); the '
            f'export was tested with torch {TRIED["torch"]}', 'export-unsupported') from error
    assert written is not None  # with dynamo=True
    exported = written.model_proto
    version = next(each.version for each in exported.opset_import if not each.domain)
    if version != opset:  # torch keeps its own version if it cannot convert
        raise UsageError(f'torch {torch.__version__} writes opset {version} of this detector, not {opset}: '
                         f'remove --opset, or use --opset {version}', 'export-unsupported')
    return exported


def prefixed(prefix: str, names: Sequence[str]) -> List[str]:
    """Names of inputs or outputs with the same beginning."""
    return [f'{prefix}_{name}' for name in names]
