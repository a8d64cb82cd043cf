"""Checkpoints are complete or absent, even if a process is killed while it writes.

mmengine's ``CheckpointHook`` deletes the old checkpoint before it writes the new one, and writes in place. If
a run with ``max_keep_ckpts=1`` is killed in between, only half a file is left.
"""

import glob
import os
import os.path as osp
from collections import deque
from typing import Dict, Iterable, Optional

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..compat.load_hooks import unwrapped
from ..data.findings import some_of
from ..errors import NonFiniteError
from ..files.atomic import ATOMIC, UNFINISHED, AtomicBackend
from ..files.disk import check_free_space, checkpoint_bytes

LAST_CHECKPOINT = 'last_checkpoint'

_INTERIM = 'interim_iter_{}.pth'


@HOOKS.register_module()
class CompleteCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, with its arguments, for runs that may be killed.

    A checkpoint is written under another name and renamed, then ``last_checkpoint`` names it, and only then
    older ones are deleted. Before training the disk must have room for three checkpoints.

    An interim checkpoint (:meth:`save_interim`) is deleted after the next checkpoint of any kind is saved. If
    the config sets a backend or a remote ``out_dir``, it stays in use.
    """

    backend_args: Optional[dict]
    out_dir: str
    keep_ckpt_ids: Iterable[int]

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._saved_iter: Optional[int] = None
        own = self.backend_args is not None or self.file_client_args is not None
        if not own and '://' not in str(self.out_dir or ''):
            self.backend_args = dict(backend=ATOMIC)

    def before_train(self, runner: Runner) -> None:
        """Prepares the folder: removes unfinished files of a killed run, and checks the free space.

        Raises:
            UsageError: If the folder cannot be written, or the disk has no room for three checkpoints.
        """
        super().before_train(runner)
        # mmengine also accepts a Path.
        self.out_dir = str(self.out_dir)
        if not is_main_process() or '://' in self.out_dir:
            return
        for folder in {self.out_dir, runner.work_dir}:
            for path in glob.glob(osp.join(glob.escape(folder), '*' + UNFINISHED)):
                os.remove(path)
        averaged = any(isinstance(hook, EMAHook) for hook in runner.hooks)
        size = checkpoint_bytes(runner.model, runner.optim_wrapper, averaged=averaged)
        check_free_space(self.out_dir, size)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Checks the weights, and writes those that the model has under several names only once.

        Copies from a GPU are separate for each name: 20 stages with shared weights would be written 20 times.

        Raises:
            NonFiniteError: If a weight is not finite. Then it writes nothing and deletes no older file.
        """
        weights, names = checkpoint['state_dict'], {}
        bad = [name for name, value in weights.items()
               if isinstance(value, torch.Tensor) and not torch.isfinite(value).all()]
        if bad:
            raise NonFiniteError(
                f'weights are not finite after iteration {runner.iter}: {some_of(bad, 3)}. No checkpoint is '
                'written; the last one is not changed. Use a smaller learning rate, gradient clipping, or no '
                '--amp')
        for name, value in unwrapped(runner.model).state_dict().items():
            if name in weights and isinstance(value, torch.Tensor) and value.numel():
                first = names.setdefault((value.data_ptr(), value.shape, value.stride()), name)
                weights[name] = weights[first]

    def has_saved(self, iterations: int) -> bool:
        """Whether this process last saved the state after this number of completed iterations."""
        return self._saved_iter == iterations

    def save_interim(self, runner: Runner, *, iterations: int) -> str:
        """Save the state of training between two regular checkpoints; all workers call it.

        Args:
            runner (Runner): The runner.
            iterations (int): Number of completed iterations.

        Returns:
            str: The file.
        """
        name = _INTERIM.format(iterations)
        path = self.file_backend.join_path(self.out_dir, name)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_param_scheduler=runner.param_schedulers is not None,
            meta=dict(epoch=runner.epoch, iter=iterations),
            backend_args=self.backend_args)
        self._name_last(runner, path)
        self._remove_interim(but=name)
        # All workers wait: if one left early, torchrun would end the others while the first still writes.
        barrier()
        return path

    def save_again(self, runner: Runner) -> None:
        """Save the state after a validation, as the checkpoint of the epoch or iteration before it."""
        step = runner.epoch if self.by_epoch else runner.iter
        self._save_checkpoint_with_step(runner, step, meta=dict(epoch=runner.epoch, iter=runner.iter))

    def _save_checkpoint_with_step(self, runner, step, meta):
        steps = None
        if self.max_keep_ckpts > 0:
            steps = [kept for kept in self.keep_ckpt_ids if kept != step] + [step]
            # One more than are kept: if this process is killed before it deletes the oldest, mmengine will.
            runner.message_hub.update_info('keep_ckpt_ids', steps)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            self.filename_tmpl.format(step),
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args)
        self._saved_iter = meta['iter']
        self._name_last(runner, self.last_ckpt)
        if steps is not None:
            self.keep_ckpt_ids = deque(steps, self.max_keep_ckpts)
            for old in steps[:-self.max_keep_ckpts]:
                self._remove(self.file_backend.join_path(self.out_dir,
                                                         self.filename_tmpl.format(old)))
        self._remove_interim()

    def _save_best_checkpoint(self, runner, metrics):
        if not self.save_best:
            return
        before = self._best_paths()
        # mmengine first deletes the previous best one, if it knows of one.
        self._set_best_paths(dict.fromkeys(before))
        super()._save_best_checkpoint(runner, metrics)
        after = self._best_paths()
        self._set_best_paths({key: after.get(key) or path for key, path in before.items()})
        for key, path in before.items():
            if path and after.get(key) and after[key] != path:
                self._remove(path)

    def _best_paths(self) -> Dict[str, Optional[str]]:
        if len(self.key_indicators) == 1:
            # Without its name, because the name for "auto" is known only after the first validation.
            return {'': self.best_ckpt_path}
        return dict(self.best_ckpt_path_dict)

    def _set_best_paths(self, paths):
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = paths['']
        else:
            self.best_ckpt_path_dict = dict(paths)

    def _name_last(self, runner, path):
        if is_main_process():
            AtomicBackend().put_text(path, osp.join(runner.work_dir, LAST_CHECKPOINT))

    def _remove_interim(self, *, but=None):
        if is_main_process():
            for path in glob.glob(osp.join(glob.escape(self.out_dir), _INTERIM.format('*'))):
                if osp.basename(path) != but:
                    os.remove(path)

    def _remove(self, path):
        if not is_main_process():
            return
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):
            # Checkpoints of deepspeed are folders.
            self.file_backend.rmtree(path)
