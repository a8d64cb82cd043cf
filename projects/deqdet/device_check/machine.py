"""Describe a machine: its processor, its GPU, and the software versions."""

import os
import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Callable, Dict, Iterator

import torch
from torch.utils.collect_env import get_nvidia_driver_version, run

from ..analysis.timing import cpu_info, processor_name
from ..compat.mmcv_ops import install_mmcv_ops
from .findings import Finding, Setting, attempt, measured

_FAMILIES = {
    'onedl forks': ('onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection'),
    'OpenMMLab': ('mmengine', 'mmcv', 'mmcv-lite', 'mmdet'),
}
#: Instruction sets that decide which kernels PyTorch uses, with their Linux names on x86 and ARM.
_INSTRUCTIONS = ('avx', 'avx2', 'fma', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'avx512_fp16', 'amx_bf16',
                 'amx_int8', 'amx_fp16', 'asimd', 'sve', 'sve2', 'bf16', 'fphp')


def describe_machine(setting: Setting) -> Iterator[Finding]:
    """Versions and hardware, one finding each."""
    parts: Dict[str, Callable[[], Dict[str, str]]] = {'versions': _versions, 'processor': _processor}
    if setting.on_gpu:
        parts.update({'GPU': lambda: _gpu(setting.device), 'TF32': _tf32})
    for name, part in parts.items():
        yield from attempt(name, _facts, part)


def _facts(part: Callable[[], Dict[str, str]]) -> Iterator[Finding]:
    yield from (measured(key, value) for key, value in part().items())


def _versions() -> Dict[str, str]:
    installed = {family: [(name, found) for name in names if (found := _version_of(name))]
                 for family, names in _FAMILIES.items()}
    families = [family for family, found in installed.items() if found]
    compiler = next(filter(None, map(shutil.which, (os.environ.get('CXX', 'c++'), 'g++', 'clang++'))), None)
    return {
        'Python, system': f'{platform.python_version()}, {platform.system()} {platform.release()}',
        'torch': f'{torch.__version__}, CUDA {torch.version.cuda or "not built in"}, cuDNN '
                 f'{torch.backends.cudnn.version() or "not built in"}',
        'package family': ' and '.join(families) + ('; install one of them' if len(families) > 1 else ''),
        'packages': ', '.join(f'{name} {found}' for family in installed.values() for name, found in family),
        'others': ', '.join(f'{name} {_version_of(name) or "not installed"}'
                            for name in ('deqdet', 'numpy', 'scipy', 'torchvision', 'triton')),
        'compiled operators of mmcv': 'not installed, plain PyTorch ones are used' if install_mmcv_ops()
                                      else 'installed',
        'C++ compiler': compiler or 'none, so nothing is compiled on a CPU',
    }


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ''


def _processor() -> Dict[str, str]:
    flags = set((re.findall(r'^(?:flags|Features)\s*:\s*(.*)', cpu_info(), re.MULTILINE) or [''])[0].split())
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return {
        'processor': f'{processor_name()}, {cpus} CPUs, {torch.get_num_threads()} threads of torch',
        'instruction sets': f'{" ".join(name for name in _INSTRUCTIONS if name in flags) or "unknown"}; '
                            f'torch uses {torch.backends.cpu.get_cpu_capability()}',
        'memory': _memory(),
    }


def _memory() -> str:
    try:
        pages, size = os.sysconf('SC_PHYS_PAGES'), os.sysconf('SC_PAGE_SIZE')
    except (AttributeError, ValueError, OSError):
        return 'unknown'
    return f'{pages * size / 1e9:.1f} GB'


def _gpu(device: torch.device) -> Dict[str, str]:
    properties = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    facts = {
        'GPU': f'{properties.name}, one of {torch.cuda.device_count()}, capability '
               f'{properties.major}.{properties.minor}, {properties.multi_processor_count} multiprocessors',
        'driver': str(get_nvidia_driver_version(run)),
        'GPU memory': f'{total / 1e9:.1f} GB, {free / 1e9:.1f} GB free',
        'half precisions': 'float16, bfloat16 ' + (
            'in hardware' if torch.cuda.is_bf16_supported(including_emulation=False) else 'emulated'),
    }
    if torch.distributed.is_available() and torch.distributed.is_nccl_available():
        facts['NCCL'] = '.'.join(map(str, torch.cuda.nccl.version()))
    return facts


def _tf32() -> Dict[str, str]:
    products, cudnn = ('on' if backend.allow_tf32 else 'off'
                       for backend in (torch.backends.cuda.matmul, torch.backends.cudnn))
    return {'TF32': f'matrix products {products}, cuDNN {cudnn}; off in comparisons in float32'}


def problem_of(device: torch.device) -> str:
    """Why a device cannot be used here; empty if it can."""
    if device.type == 'cpu':
        return ''
    if device.type != 'cuda':
        return f'only cpu and cuda can be checked, not {device.type}'
    if torch.version.cuda is None and torch.version.hip is None:
        return (f'torch {torch.__version__} of {sys.prefix} was built without CUDA: install the one that '
                'https://pytorch.org/get-started/locally names for your driver')
    if not torch.cuda.is_available():
        return (f'torch {torch.__version__} finds no GPU: check nvidia-smi, CUDA_VISIBLE_DEVICES, and that '
                f'the driver is new enough for CUDA {torch.version.cuda}')
    if (device.index or 0) >= torch.cuda.device_count():
        return f'the machine has {torch.cuda.device_count()} GPUs, numbered from 0'
    return ''
