"""Training and testing around mmengine's Runner.

Workers, mixed precision, checks of the input, and runs that go on after they were killed. Importing it
registers the hooks, the optimiser wrapper and the training loop that configs name.
"""

from ..compat.checkpoint_loading import safe_checkpoint_loading
from ..compat.image_values import LoadImageFromFile
from .accumulation import AccumulatingRunner
from .amp import BFloat16OptimWrapper, use_amp
from .checkpoint_check import CheckpointCheckHook, check_checkpoint_file, check_pretrained
from .checks import DataCheckHook, check_class_names, check_files, check_num_classes
from .cli import add_common_arguments, add_hooks, load_config, run, runner_of
from .disk import check_free_space, check_work_dir
from .equilibrium_hook import EquilibriumHook
from .evaluated_images import EvaluatedImagesHook, limit_evaluator
from .hook_state import HookStateHook
from .launch import leave, prepare_workers, running_workers
from .metric_names import MetricNames, MetricNamesHook
from .randomness import IterationSeedHook, SeededDataset
from .resume import check_start, find_complete_checkpoint, make_resumable
from .resume_hook import ResumeHook, take_new_schedule
from .saving import AtomicBackend, CompleteCheckpointHook
from .submission import CocoSubmissionMetric, place_submission
from .termination import TerminationHook
from .train_loop import ResumableTrainLoop, batches_of_epoch

__all__ = [
    'AccumulatingRunner', 'AtomicBackend', 'BFloat16OptimWrapper', 'CheckpointCheckHook',
    'CocoSubmissionMetric', 'CompleteCheckpointHook', 'DataCheckHook', 'EquilibriumHook',
    'EvaluatedImagesHook', 'HookStateHook', 'IterationSeedHook', 'LoadImageFromFile', 'MetricNames',
    'MetricNamesHook', 'ResumableTrainLoop', 'ResumeHook', 'SeededDataset', 'TerminationHook',
    'add_common_arguments', 'add_hooks', 'batches_of_epoch', 'check_checkpoint_file', 'check_class_names',
    'check_files', 'check_free_space', 'check_num_classes', 'check_pretrained', 'check_start',
    'check_work_dir', 'find_complete_checkpoint', 'leave', 'limit_evaluator', 'load_config', 'make_resumable',
    'place_submission', 'prepare_workers', 'run', 'runner_of', 'running_workers', 'safe_checkpoint_loading',
    'take_new_schedule', 'use_amp'
]
