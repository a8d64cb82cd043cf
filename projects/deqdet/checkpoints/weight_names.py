"""Names of weights without the wrappers that a model was saved in.

``torch.compile``, DDP, FSDP, activation checkpointing and averaged models each put a word of their own into
the names, in front of all of them or in the middle: ``module._orig_mod.backbone.conv1.weight``,
``backbone._orig_mod.conv1.weight``.
"""

from collections import Counter, OrderedDict, defaultdict
from typing import Any, Dict, Iterable, Iterator, List, Mapping

from torch import Tensor

# No model has a part of such a name.
_ONLY_WRAPPERS = ('_orig_mod', '_fsdp_wrapped_module', '_fpw_module', '_checkpoint_wrapped_module')
# DDP, DataParallel and averaged models; a model may have a part of that name as well.
_WRAPPERS = ('module', *_ONLY_WRAPPERS)
# How many models an averaged model (of torch, of mmengine) has seen.
_COUNTERS = ('n_averaged', 'steps')


def without_wrappers(state_dict: Mapping[str, Any]) -> Dict[str, Any]:
    """The weights under the names that they have in the model, as far as names alone can tell.

    Args:
        state_dict (Mapping[str, Tensor]): Weights.

    Returns:
        dict[str, Tensor]: Without words of wrappers, and without the state of a moving average.
    """
    state_dict = _without_average(state_dict)
    front = _common_front(state_dict)
    return renamed(state_dict, {
        name: '.'.join(part for part in name.split('.')[front:] if part not in _ONLY_WRAPPERS)
        for name in state_dict})


def renamings(state_dict: Mapping[str, Any], wanted: Iterable[str]) -> Iterator[Dict[str, Any]]:
    """Ways to read the names of a file for a model; those that change less come first.

    A name that the model has stays. So a part of the model that is really named ``module`` is found.

    Args:
        state_dict (Mapping[str, Tensor]): Weights of the file.
        wanted (Iterable[str]): Names of the model's tensors.

    Yields:
        dict[str, Tensor]: The weights under other names.
    """
    known: Dict[str, List[str]] = defaultdict(list)
    for name in wanted:
        known[_bare(name)].append(name)
    yield renamed(state_dict, {name: name for name in state_dict})
    state_dict = _without_average(state_dict, {name for names in known.values() for name in names})
    for front in range(_common_front(state_dict) + 1):
        short = {name: '.'.join(name.split('.')[front:]) for name in state_dict}
        yield renamed(state_dict, short)
        found = {name: _nearest(each, known.get(_bare(each), [])) for name, each in short.items()}
        yield renamed(state_dict, found)


def foreign_prefixes(file: Mapping[str, tuple], model: Mapping[str, tuple]) -> Dict[str, int]:
    """Prefixes without which the names of a file would be those of a model.

    Args:
        file (Mapping[str, tuple]): Shape of each tensor of the file.
        model (Mapping[str, tuple]): Shape of each tensor of the model.

    Returns:
        dict[str, int]: Number of tensors that fit without it, for each prefix with which half of the model
            would be there.
    """
    count: Counter = Counter()
    for name, shape in file.items():
        parts = name.split('.')
        for cut in range(1, len(parts)):
            if model.get('.'.join(parts[cut:])) == shape:
                count['.'.join(parts[:cut]) + '.'] += 1
    return {prefix: number for prefix, number in count.most_common() if 2 * number >= len(model)}


def for_mmengine(state_dict: Mapping[str, Any]) -> Dict[str, Any]:
    """Names such that the model gets its own after mmengine has removed ``module.`` from their beginning.

    Args:
        state_dict (Mapping[str, Tensor]): Weights under the names of the model.

    Returns:
        dict[str, Tensor]: The same, and those of a part that is really named ``module`` a second time.
    """
    # mmengine's pattern takes any letter for the dot. What it makes of the names themselves comes first, so
    # that right names replace it; hooks of the Runner look for the names themselves.
    first = {name: name for name in state_dict if name.startswith('module') and len(name) > len('module')}
    ordered = [*first, *(name for name in state_dict if name not in first)]
    weights = renamed(state_dict, {name: name for name in ordered})
    weights.update({f'module.{name}': state_dict[name] for name in first})
    return weights


def renamed(state_dict: Mapping[str, Any], names: Mapping[str, str]) -> 'OrderedDict[str, Any]':
    """Weights under other names, with the versions of modules that belong to them.

    Args:
        state_dict (Mapping[str, Tensor]): Weights.
        names (Mapping[str, str]): New names by the old ones. Weights without a new name are left out; where
            two get the same one, the name that stays wins.

    Returns:
        OrderedDict[str, Tensor]: The same tensors.
    """
    weights = OrderedDict((new, state_dict[old]) for old, new in names.items())
    weights.update((new, state_dict[old]) for old, new in names.items() if old == new)
    metadata = getattr(state_dict, '_metadata', None)
    if metadata is not None:
        # Versions of modules, under the names of modules.
        changed = any(old != new for old, new in names.items())
        weights._metadata = OrderedDict(  # type: ignore[attr-defined]
            {**({_bare(name): value for name, value in metadata.items()} if changed else {}), **metadata})
    return weights


def _bare(name: str) -> str:
    return '.'.join(part for part in name.split('.') if part not in _WRAPPERS)


def _nearest(name: str, choices: List[str]) -> str:
    """The one of the model's names that has most of the file's words; else without all words of wrappers."""
    if name in choices:
        return name
    inside = [each for each in choices if _is_part(each.split('.'), name.split('.'))]
    if inside:
        return max(inside, key=len)
    return choices[0] if len(choices) == 1 else _bare(name)


def _is_part(short, long) -> bool:
    rest = iter(long)
    return all(part in rest for part in short)


def _common_front(state_dict: Mapping[str, Any]) -> int:
    """With how many words of wrappers all names begin; they are the same ones in all names."""
    split = [name.split('.')[:-1] for name in state_dict]
    front = 0
    while split and all(len(parts) > front for parts in split):
        words = {parts[front] for parts in split}
        if len(words) > 1 or not words <= set(_WRAPPERS):
            break
        front += 1
    return front


def _without_average(state_dict: Mapping[str, Any], wanted: Iterable[str] = ()) -> Mapping[str, Any]:
    """Without the counter of an averaged model, and the averages that mmdet 2 keeps beside the weights."""
    averages = {f'ema_{name.replace(".", "_")}' for name in state_dict}
    counters = {name for name in _COUNTERS
                if isinstance(state_dict.get(name), Tensor) and state_dict[name].numel() == 1}
    dropped = ((averages & set(state_dict)) | counters) - set(wanted)
    return renamed(state_dict, {name: name for name in state_dict if name not in dropped})
