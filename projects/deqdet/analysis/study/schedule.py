"""Epochs of a training: schedules of another length, for an equal time, with evaluations on the way."""

from typing import Dict, Tuple

from mmengine.config import Config

from ...errors import UsageError

#: Parts of the training after which AP is compared.
MARKS: Dict[str, float] = {'1/4': 0.25, '1/2': 0.5, '1': 1.0}
# Settings of hooks that count epochs.
_COUNTING = ('switch_epoch', 'num_last_epochs')


def schedule_options(cfg: Config, epochs: int, *, interval: int, name: str) -> Dict[str, object]:
    """Settings that make a training as long as this; its warm-up stays.

    Args:
        cfg (Config): A config that trains by epochs, with a warm-up by iterations and cosine schedulers from
            the first epoch to the last.
        epochs (int): Number of epochs.
        interval (int): Epochs from one validation to the next; the last epoch has one in any case.
        name (str): Name of the config, for the message.

    Returns:
        dict[str, object]: By dotted key.

    Raises:
        UsageError: If the config has a schedule of another form.
    """
    loop = cfg.get('train_cfg') or {}
    before = loop.get('max_epochs')
    counting = [key for hook in cfg.get('custom_hooks') or [] for key in _COUNTING if key in hook]
    if not before or loop.get('dynamic_intervals') or loop.get('val_begin', 1) > 1 or counting:
        raise _other_form(name, f'custom_hooks with {counting[0]}' if counting else 'train_cfg')
    options: Dict[str, object] = {'train_cfg.max_epochs': epochs, 'train_cfg.val_interval': interval}
    schedulers = cfg.get('param_scheduler') or []
    if isinstance(schedulers, dict):
        raise _other_form(name, 'param_scheduler, which is no list')
    for number, scheduler in enumerate(schedulers):
        key = f'param_scheduler.{number}'
        kind = str(scheduler.get('type'))
        if not scheduler.get('by_epoch', True) and kind.startswith(('Linear', 'Constant')):
            continue
        whole = (scheduler.get('by_epoch', True) and kind.startswith('CosineAnnealing')
                 and scheduler.get('begin', 0) == 0 and scheduler.get('T_max') == before
                 and scheduler.get('end', before) == before)
        if not whole:
            raise _other_form(name, f'{key} ({kind})')
        options.update({f'{key}.T_max': epochs, f'{key}.end': epochs})
    return options


def _other_form(name, part):
    return UsageError(f'{name}: a study cannot set its epochs because of {part}: use train_cfg.max_epochs, a '
                      'warm-up by iterations, and a CosineAnnealingLR over all epochs, as in '
                      'configs/_base_/schedules/schedule_digits.py', 'settings-mismatch')


def epochs_in(minutes: float, *, seconds: float, batches: int) -> int:
    """The nearest number of epochs to a time, at least 1.

    Args:
        minutes (float): Time of the training.
        seconds (float): Time of a step.
        batches (int): Steps of an epoch.
    """
    return max(1, round(60 * minutes / (seconds * batches)))


def interval_of(epochs: int) -> int:
    """The longest validation interval that evaluates the epochs nearest to all :data:`MARKS`."""
    def fits(interval):
        return all(abs(mark * epochs - _nearest_multiple(mark * epochs, interval)) <= 0.5
                   for mark in MARKS.values() if mark < 1)

    return max((interval for interval in range(1, epochs // 2 + 1) if fits(interval)), default=1)


def _nearest_multiple(epoch, interval):
    return max(1, round(epoch / interval)) * interval


def evaluated_near(epochs: int, evaluated: Tuple[int, ...], mark: float) -> int:
    """The evaluated epoch that is nearest to a part of a training; 0 if none is near.

    Args:
        epochs (int): All epochs.
        evaluated (tuple[int]): Those with a validation.
        mark (float): Part of the training. The last epoch stands only for the whole training.
    """
    wanted = mark * epochs
    found = min((epoch for epoch in evaluated if mark == 1 or epoch < epochs),
                key=lambda epoch: (abs(epoch - wanted), epoch), default=0)
    return found if found and abs(found - wanted) <= max(0.5, epochs / 8) else 0
