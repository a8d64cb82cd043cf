"""Training and testing around mmengine's Runner: workers, mixed precision, checks of the input.

Importing it registers ``BFloat16OptimWrapper``, ``DataCheckHook``, ``CheckpointCheckHook`` and
``EquilibriumHook``.
"""

from .amp import BFloat16OptimWrapper, use_amp
from .checkpoint_check import CheckpointCheckHook, check_checkpoint_file
from .checks import DataCheckHook, check_class_names, check_files, check_num_classes
from .cli import add_check_hooks, add_common_arguments, check_start, load_config, run, runner_of
from .equilibrium_hook import EquilibriumHook
from .launch import prepare_workers, running_workers

__all__ = [
    'BFloat16OptimWrapper', 'CheckpointCheckHook', 'DataCheckHook', 'EquilibriumHook', 'add_check_hooks',
    'add_common_arguments', 'check_checkpoint_file', 'check_class_names', 'check_files',
    'check_num_classes', 'check_start', 'load_config', 'prepare_workers', 'run', 'runner_of',
    'running_workers', 'use_amp'
]
