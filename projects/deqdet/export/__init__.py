"""Export of detectors to ONNX files, which need neither mmdet nor torch, and of the refinement layer.

Training and prediction do not need this package. It imports onnx, onnxscript and onnxruntime only when it
uses them. The command is ``tools/export.py``.
"""

from .agreement import (
    BOX_LIMIT,
    MASK_LIMIT,
    SCORE_LIMIT,
    Agreement,
    compare_batch,
    fixed_shape,
    inputs_of,
    open_file,
    outputs_of,
    padded_shape,
    predict,
    random_images,
    run_file,
    worst,
)
from .joining import GIVEN, join_parts
from .masks import kind_of, paste
from .metadata import describe, resize_of
from .opening import load_detector
from .packages import TRIED, require_packages, untried_versions
from .parts import split_detector
from .quantisation import quantise_parts
from .recording import MASKS, OPSET, record_parts, record_refinement, size_divisor
from .single_steps import (
    FEATURE_LIMIT,
    STEP_LIMIT,
    TracedFile,
    compare_paths,
    compare_program,
    compare_steps,
)

__all__ = [
    'BOX_LIMIT', 'FEATURE_LIMIT', 'GIVEN', 'MASKS', 'MASK_LIMIT', 'OPSET', 'SCORE_LIMIT', 'STEP_LIMIT',
    'TRIED', 'Agreement', 'TracedFile', 'compare_batch', 'compare_paths', 'compare_program',
    'compare_steps', 'describe', 'inputs_of', 'join_parts', 'kind_of', 'load_detector', 'open_file',
    'outputs_of', 'paste', 'predict', 'quantise_parts', 'random_images', 'record_parts',
    'record_refinement', 'require_packages', 'resize_of', 'run_file', 'size_divisor', 'split_detector',
    'untried_versions', 'worst', 'padded_shape', 'fixed_shape'
]
