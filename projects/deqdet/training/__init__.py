"""Training: the loop, saving and resuming, random numbers, mixed precision, and checks of the equilibrium.

Importing it registers the hooks, the optimiser wrapper and the training loop that configs name.
"""

from ..compat.image_values import LoadImageFromFile
from .accumulation import AccumulatingRunner
from .amp import BFloat16OptimWrapper
from .equilibrium_hook import EquilibriumHook
from .hook_state import HookStateHook
from .metric_names import MetricNamesHook
from .randomness import IterationSeedHook, SeededDataset
from .resume_hook import ResumeHook
from .saving import CompleteCheckpointHook
from .termination import TerminationHook
from .train_loop import ResumableTrainLoop

__all__ = [
    'AccumulatingRunner', 'BFloat16OptimWrapper', 'CompleteCheckpointHook',
    'EquilibriumHook', 'HookStateHook', 'IterationSeedHook', 'LoadImageFromFile', 'MetricNamesHook',
    'ResumableTrainLoop', 'ResumeHook', 'SeededDataset', 'TerminationHook'
]
