"""Random numbers that depend on the position in training, not on earlier draws.

So a checkpoint needs no random state to be resumed exactly, with any number of workers.
"""

import random
from typing import Any, Tuple

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import Dataset

# First number of each key. It separates the random streams of different purposes.
_SAMPLE, _ITERATION, _EPOCH = range(3)


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Seeds the generators before each iteration, from the seed, the worker and the iteration.

    So the noise of the model differs between iterations and workers, and is the same after a resume.
    """

    # Runs before hooks that draw random numbers.
    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Logs if a resumed run will not repeat the augmentations."""
        if runner.iter > 0 and not isinstance(runner.train_loop, EpochBasedTrainLoop):
            runner.logger.info(
                f'{type(runner.train_loop).__name__}: from here, random augmentations differ from those of '
                'an uninterrupted run; nothing else differs')

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seeds python, numpy and torch, on all devices."""
        _seed_generators(torch.manual_seed, runner.seed, _ITERATION, get_rank(), runner.iter)


class SeededDataset(Dataset):
    """The samples of one epoch, each with its own random numbers.

    Augmentations depend on the seed, the epoch, the sample and its place in the epoch, but not on the number
    of loader workers or on earlier samples.

    Args:
        dataset (Dataset): The samples, augmented with the generators of python, numpy or torch.
        seed (int): Seed of the run.
        epoch (int): The epoch, from 0.
    """

    def __init__(self, dataset: Dataset, *, seed: int, epoch: int) -> None:
        self.dataset: Any = dataset
        self.seed = seed
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, drawn: Tuple[int, Any]) -> Any:
        """A sample.

        Args:
            drawn (tuple): Place in the epoch, from 0, and index in the dataset. If a sampler draws an index
                twice, the place makes the difference.
        """
        place, index = drawn
        # Only the CPU's generator, because a loader's worker must not touch another device.
        _seed_generators(torch.default_generator.manual_seed, self.seed, _SAMPLE, self.epoch, place,
                         *np.ravel(index).tolist())
        return self.dataset[index]


def seed_epoch(seed: int, epoch: int) -> None:
    """Seed the generators of all workers alike in an epoch (from 0), for samplers that use them."""
    _seed_generators(torch.manual_seed, seed, _EPOCH, epoch)


def _seed_generators(seed_torch, *key):
    """Seed python, numpy and torch from several numbers, which are mixed well."""
    words = np.random.SeedSequence(key).generate_state(6)
    random.seed(int(words[0]) << 32 | int(words[1]))
    np.random.seed(words[2:4])
    seed_torch(int(words[4]) << 32 | int(words[5]))
