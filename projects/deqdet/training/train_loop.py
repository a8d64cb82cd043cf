"""Training by epochs that can be resumed in the middle of an epoch."""

import logging
from itertools import islice
from typing import Any, Iterable, Iterator, List, Tuple

from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from .randomness import SeededDataset, seed_epoch

# Options of a loader that the loader of an epoch gets. Its workers are not kept: they do not know epochs.
_OPTIONS = ('num_workers', 'collate_fn', 'pin_memory', 'timeout', 'worker_init_fn',
            'multiprocessing_context', 'generator', 'prefetch_factor', 'in_order')

# Keys in the message hub, which checkpoints include.
_EPOCH_START = 'epoch_start'
# Not "val...", because mmengine logs such keys as metrics.
_VALIDATED = 'epoch_validated'


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """mmengine's ``EpochBasedTrainLoop``, with its arguments, which resumes at the exact place.

    - In an epoch that was begun, it skips the completed batches without loading an image.
    - If the killed run did not finish a validation, it runs that first.
    - Augmentations are those of an uninterrupted run, see :class:`SeededDataset`. Workers of the training
      loader are started again in each epoch, even with ``persistent_workers``.
    """

    def run(self) -> nn.Module:
        """Run the training.

        Returns:
            nn.Module: The model.
        """
        self._batches_done = self._find_batches_done()
        validated = self.runner.message_hub.runtime_info.get(_VALIDATED) == self._epoch
        self.runner.call_hook('before_train')
        if self._epoch > 0 and not self._batches_done and not validated and not self.stop_training:
            self._validate_if_due()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._validate_if_due()
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Run one epoch, or the rest of it after a resume."""
        done, self._batches_done = self._batches_done, 0
        self.runner.message_hub.update_info(
            _EPOCH_START,
            dict(epoch=self._epoch, iter=self._iter - done, batches=len(self.dataloader),
                 samples=self._samples_a_step))
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        seed_epoch(self.runner.seed, self._epoch)
        batches = batches_of_epoch(
            self.dataloader, seed=self.runner.seed, epoch=self._epoch, skip=done)
        for number, data_batch in enumerate(batches, start=done):
            self.run_iter(number, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    @property
    def _samples_a_step(self):
        """Sum over all workers; None for a loader that does not make its own batches."""
        size = getattr(self.dataloader.batch_sampler, 'batch_size', None)
        return size and size * get_world_size()

    def _validate_if_due(self):
        self._decide_current_val_interval()
        if (self.runner.val_loop is not None and self._epoch >= self.val_begin
                and (self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs)):
            # For checkpoints that are saved when the metrics are known.
            self.runner.message_hub.update_info(_VALIDATED, self._epoch)
            self.runner.val_loop.run()

    def _find_batches_done(self) -> int:
        """Number of batches of the current epoch that were completed when the checkpoint was saved."""
        start = self.runner.message_hub.runtime_info.get(_EPOCH_START)
        if start is None or start['epoch'] != self._epoch or start['iter'] >= self._iter:
            return 0
        then = start['batches'], start.get('samples')
        now = len(self.dataloader), self._samples_a_step
        if then != now:
            print_log(
                f'the checkpoint was saved in epoch {self._epoch + 1} of {then[0]} batches of {then[1]} '
                f'samples, which now has {now[0]} of {now[1]} (other data, batch size or number of '
                'workers): the epoch starts again', logger='current', level=logging.WARNING)
            return 0
        return self._iter - start['iter']


def batches_of_epoch(loader: DataLoader, *, seed: int, epoch: int, skip: int) -> Iterable[Any]:
    """The batches of an epoch.

    Args:
        loader (DataLoader): The loader; only its settings are used.
        seed (int): Seed of the run.
        epoch (int): The epoch, from 0; the sampler already has it.
        skip (int): Number of batches at the beginning to skip without loading them.

    Returns:
        Iterable: The batches. An unusual loader (without batch sampler, or of an iterable dataset) is
            returned itself. Its batches are skipped after loading, and its augmentations are not repeated.
    """
    if type(loader) is not DataLoader or isinstance(loader.dataset, IterableDataset) \
            or loader.batch_sampler is None:
        return islice(loader, skip, None) if skip else loader
    options = {name: getattr(loader, name) for name in _OPTIONS if hasattr(loader, name)}
    return DataLoader(
        SeededDataset(loader.dataset, seed=seed, epoch=epoch),
        batch_sampler=_PlacedBatches(loader.batch_sampler, skip=skip),
        **options)


class _PlacedBatches:
    """Batches of (place in the epoch, index), without the first ones."""

    def __init__(self, batch_sampler: Iterable[List[Any]], *, skip: int) -> None:
        self._batch_sampler: Any = batch_sampler
        self._skip = skip

    def __len__(self) -> int:
        return len(self._batch_sampler) - self._skip

    def __iter__(self) -> Iterator[List[Tuple[int, Any]]]:
        place = 0
        for number, batch in enumerate(self._batch_sampler):
            if number >= self._skip:
                yield list(enumerate(batch, start=place))
            place += len(batch)
