"""Scales learning rates by the batch of a step, including accumulated gradients."""

from typing import Any, Optional, Union

from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIMIZERS, RUNNERS
from mmengine.runner import Runner

from ..compat.building import names_parts
from ..compat.runner_state import accumulation_of
from ..errors import UsageError
from ..launching.explaining import unknown_type


@RUNNERS.register_module()
@names_parts
class AccumulatingRunner(Runner):
    """mmengine's Runner with an ``auto_scale_lr`` that counts accumulated gradients.

    The batch of a step is the batch of a worker, times the workers, times ``accumulative_counts`` of the
    optimiser wrapper. mmengine ignores the last factor.
    """

    def build_optim_wrapper(self, optim_wrapper: Any) -> Union[OptimWrapper, OptimWrapperDict]:
        """Build the optimisers.

        Raises:
            UsageError: If the type of the optimiser is unknown; mmengine would continue without it.
        """
        optimizer = optim_wrapper.get('optimizer') if isinstance(optim_wrapper, dict) else None
        kind = optimizer.get('type') if isinstance(optimizer, dict) else None
        with OPTIMIZERS.switch_scope_and_registry(None) as registry:  # the scope in which mmengine builds it
            known = not isinstance(kind, str) or registry.get(kind) is not None
        if not known:
            raise UsageError(unknown_type(str(kind)), 'unknown-type')
        return super().build_optim_wrapper(optim_wrapper)

    def scale_lr(self, optim_wrapper: Any, auto_scale_lr: Optional[dict] = None) -> None:
        """Scale the learning rate by the batch of a step over ``base_batch_size``.

        Args:
            optim_wrapper (OptimWrapper or OptimWrapperDict): Before schedulers are built.
            auto_scale_lr (dict, optional): Has ``enable`` and ``base_batch_size``.
        """
        if not auto_scale_lr or not auto_scale_lr.get('enable', False):
            return
        several = isinstance(optim_wrapper, OptimWrapperDict)
        wrappers = list(optim_wrapper.values()) if several else [optim_wrapper]
        for wrapper in wrappers:
            count = accumulation_of(wrapper)
            scaling = auto_scale_lr
            if count > 1 and 'base_batch_size' in scaling:
                base = scaling['base_batch_size']
                self.logger.info(
                    f'an optimiser step uses gradients of {count} iterations (accumulative_counts): '
                    f'base_batch_size={base} is {base / count:g} per iteration')
                scaling = dict(scaling, base_batch_size=base / count)
            super().scale_lr(wrapper, scaling)
