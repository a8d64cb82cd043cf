"""Makes mmcv and mmdet importable if mmcv has no compiled operators.

mmcv from PyPI has no ``mmcv._ext``, and without it neither ``mmcv.ops`` nor most of mmdet can be imported.
The replacement has the operators that the detector needs; the others fail when called.
"""

import importlib
import importlib.machinery
import importlib.util
import re
import sys
import types
from typing import Any, Callable, List

# mmcv's compiled module links to torch's libraries, so torch must be loaded first.
import torch

from . import roi_align, torch_ops

_EXT = 'mmcv._ext'
_MARK = '__deqdet_stand_in__'

_OPERATORS = {
    function.__name__: function
    for function in (torch_ops.nms, torch_ops.sigmoid_focal_loss_forward,
                     torch_ops.sigmoid_focal_loss_backward, roi_align.roi_align_forward,
                     roi_align.roi_align_backward)
}

_HOW_TO_GET_COMPILED = (
    'Install a prebuilt wheel of onedl-mmcv (for torch 2.4.1 cu118, 2.8 cu128 or cu129, '
    '2.9 cu129, 2.10 cu129 or 2.12 cu130, with Python 3.10 or 3.12), or compile mmcv with '
    'setuptools<81: MMCV_WITH_OPS=1 pip install --no-build-isolation mmcv==2.1.0')

# Modules of mmdet that can be imported without compiled operators and keep no trace of their absence, in
# mmdet 3.3.0 and onedl-mmdetection 3.5.1. Most others import mmcv.ops, which fails half way in the former and
# leaves failing placeholders in the latter.
_HARMLESS = re.compile(r'mmdet(\.version|\.registry|\.configs|\.structures'
                       r'|\.structures\.\w+_data_sample|\.utils(\.(?!large_image)\w+)?)?')


def install_mmcv_ops() -> bool:
    """Make ``mmcv.ops`` importable, with a replacement for ``mmcv._ext`` if it is not compiled.

    Call it before mmdet is imported. It changes only the entry of ``mmcv._ext`` in ``sys.modules`` and in
    ``mmcv``; a second call does nothing.

    Returns:
        bool: True if the replacement is in place, False if mmcv has its compiled operators.

    Raises:
        ImportError: If mmcv is missing; if its compiled module exists but cannot be loaded; or if parts of
            mmdet that need the operators were imported before.
    """
    loaded = sys.modules.get(_EXT)
    if loaded is not None:
        return hasattr(loaded, _MARK)
    if importlib.util.find_spec(_EXT) is not None:
        _load_compiled()
        return False
    _check_mmdet_untouched()
    stand_in = _build_stand_in()
    sys.modules[_EXT] = stand_in
    # The import system does the same for every submodule; `find_spec` has imported mmcv.
    mmcv: Any = sys.modules['mmcv']
    mmcv._ext = stand_in
    return True


def has_operator(name: str) -> bool:
    """Whether an operator of mmcv can be called here: compiled, or in the replacement."""
    return name in _OPERATORS or not hasattr(sys.modules.get(_EXT), _MARK)


def _load_compiled() -> None:
    try:
        importlib.import_module(_EXT)
    except (ImportError, OSError) as error:
        raise ImportError(
            f'the compiled operators of mmcv are installed but cannot be loaded: {error}. Probably they were '
            f'built for another version of torch, Python or CUDA (torch is {torch.__version__}). Reinstall '
            'mmcv for these versions; or use an mmcv without compiled operators (mmcv-lite, or onedl-mmcv '
            'from PyPI): deqdet then uses its own, slower operators.') from error


def _check_mmdet_untouched() -> None:
    spoiled = _spoiled_mmdet_modules(list(sys.modules))
    if spoiled:
        raise ImportError(
            f'mmdet was imported before deqdet ({spoiled[0]}) and mmcv has no compiled operators, '
            'so parts of mmdet are missing or fail later. Put `import deqdet` above the first import of '
            'mmdet, and restart the interpreter.')


def _spoiled_mmdet_modules(names: List[str]) -> List[str]:
    """Loaded modules of mmdet that are unusable, because the operators were missing at their import.

    Returns:
        list[str]: Modules that need the operators, and those left from an import that failed half way: it
            removes the failing package, but not the submodules that it had loaded.
    """
    loaded = set(names)
    return [
        name for name in names if name.split('.')[0] == 'mmdet' and
        (not _HARMLESS.fullmatch(name) or ('.' in name and name.rpartition('.')[0] not in loaded))
    ]


def _build_stand_in() -> types.ModuleType:
    module: Any = types.ModuleType(_EXT, 'Stand-in of deqdet for the compiled operators of mmcv.')
    # Without a loader, `find_spec` works, and mmcv's check_ops_exist() reports that there are no ops.
    module.__spec__ = importlib.machinery.ModuleSpec(_EXT, loader=None, origin=__name__)
    setattr(module, _MARK, True)
    for name, function in _OPERATORS.items():
        setattr(module, name, function)
    # mmcv shows these two in its description of the environment.
    module.get_compiler_version = lambda: 'n/a (plain PyTorch operators of deqdet)'
    module.get_compiling_cuda_version = lambda: 'n/a'
    module.__getattr__ = _missing_operator
    return module


def _missing_operator(name: str) -> Callable:
    """Module ``__getattr__``: mmcv.ops asks for every operator when it is imported.

    Returns:
        Callable: A function that raises NotImplementedError (a RuntimeError).

    Raises:
        AttributeError: For private names, with which Python tests the abilities of an object.
    """
    if name.startswith('_'):
        raise AttributeError(f'module {_EXT!r} has no attribute {name!r}')

    def operator(*args, **kwargs):
        raise NotImplementedError(
            f"the operator '{name}' needs mmcv with compiled operators; deqdet has no plain "
            f'PyTorch version of it. {_HOW_TO_GET_COMPILED}')

    operator.__name__ = operator.__qualname__ = name
    return operator
