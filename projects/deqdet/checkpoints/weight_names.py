"""Names of weights without the wrappers that a model was saved in.

``torch.compile``, DDP, FSDP, activation checkpointing and averaged models each add a word to the names, at
the start of all of them or in the middle: ``module._orig_mod.backbone.conv1.weight``,
``backbone._orig_mod.conv1.weight``.
"""

from collections import Counter, OrderedDict, defaultdict
from typing import Any, Dict, Iterable, Iterator, List, Mapping

from torch import Tensor

# No model has a part with such a name.
_ONLY_WRAPPERS = ('_orig_mod', '_fsdp_wrapped_module', '_fpw_module', '_checkpoint_wrapped_module')
# DDP, DataParallel and averaged models. A model may also have a part with that name.
_WRAPPERS = ('module', *_ONLY_WRAPPERS)
# Number of models that an averaged model (of torch, of mmengine) has seen.
_COUNTERS = ('n_averaged', 'steps')


def without_wrappers(state_dict: Mapping[str, Any]) -> Dict[str, Any]:
    """The weights under their names in the model, as far as the names alone show them.

    Args:
        state_dict (Mapping[str, Tensor]): Weights.

    Returns:
        dict[str, Tensor]: Without wrapper words and without the state of a moving average.
    """
    state_dict = _without_average(state_dict)
    front = _common_front(state_dict)
    return renamed(state_dict, {
        name: '.'.join(part for part in name.split('.')[front:] if part not in _ONLY_WRAPPERS)
        for name in state_dict})


def renamings(state_dict: Mapping[str, Any], wanted: Iterable[str]) -> Iterator[Dict[str, Any]]:
    """Possible readings of a file's names for a model; those that change less come first.

    A name that the model has does not change, so a part that is really named ``module`` is found.

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
    """Prefixes that the names of a file have in front of a model's names.

    Args:
        file (Mapping[str, tuple]): Shape of each tensor of the file.
        model (Mapping[str, tuple]): Shape of each tensor of the model.

    Returns:
        dict[str, int]: By prefix, the number of tensors that fit without it. Only prefixes for which at least
            half of the model's tensors fit.
    """
    count: Counter = Counter()
    for name, shape in file.items():
        parts = name.split('.')
        for cut in range(1, len(parts)):
            if model.get('.'.join(parts[cut:])) == shape:
                count['.'.join(parts[:cut]) + '.'] += 1
    return {prefix: number for prefix, number in count.most_common() if 2 * number >= len(model)}


def for_mmengine(state_dict: Mapping[str, Any]) -> Dict[str, Any]:
    """Names from which mmengine can remove a leading ``module.`` and still give the model its own names.

    Args:
        state_dict (Mapping[str, Tensor]): Weights under the names of the model.

    Returns:
        dict[str, Tensor]: The same weights. Those of a part that is really named ``module`` occur twice.
    """
    # mmengine's pattern takes any letter for the dot, so it also changes these names. They come first, so
    # that the right names replace the results. Hooks of the Runner look for the names themselves.
    first = {name: name for name in state_dict if name.startswith('module') and len(name) > len('module')}
    ordered = [*first, *(name for name in state_dict if name not in first)]
    weights = renamed(state_dict, {name: name for name in ordered})
    weights.update({f'module.{name}': state_dict[name] for name in first})
    return weights


def renamed(state_dict: Mapping[str, Any], names: Mapping[str, str]) -> 'OrderedDict[str, Any]':
    """Weights under other names, with the module versions that belong to them.

    Args:
        state_dict (Mapping[str, Tensor]): Weights.
        names (Mapping[str, str]): New names by the old ones. Weights without a new name are left out. If two
            get the same name, the one whose name does not change is kept.

    Returns:
        OrderedDict[str, Tensor]: The same tensors.
    """
    weights = OrderedDict((new, state_dict[old]) for old, new in names.items())
    weights.update((new, state_dict[old]) for old, new in names.items() if old == new)
    metadata = getattr(state_dict, '_metadata', None)
    if metadata is not None:
        # Versions of modules, by the names of modules.
        changed = any(old != new for old, new in names.items())
        weights._metadata = OrderedDict(  # type: ignore[attr-defined]
            {**({_bare(name): value for name, value in metadata.items()} if changed else {}), **metadata})
    return weights


def _bare(name: str) -> str:
    return '.'.join(part for part in name.split('.') if part not in _WRAPPERS)


def _nearest(name: str, choices: List[str]) -> str:
    """The model's name with most of the file's words; else the name without wrapper words."""
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
    """Number of wrapper words at the start that all names have in common."""
    split = [name.split('.')[:-1] for name in state_dict]
    front = 0
    while split and all(len(parts) > front for parts in split):
        words = {parts[front] for parts in split}
        if len(words) > 1 or not words <= set(_WRAPPERS):
            break
        front += 1
    return front


def _without_average(state_dict: Mapping[str, Any], wanted: Iterable[str] = ()) -> Mapping[str, Any]:
    """Without the counter of an averaged model and the averages that mmdet 2 keeps beside the weights."""
    averages = {f'ema_{name.replace(".", "_")}' for name in state_dict}
    counters = {name for name in _COUNTERS
                if isinstance(state_dict.get(name), Tensor) and state_dict[name].numel() == 1}
    dropped = ((averages & set(state_dict)) | counters) - set(wanted)
    return renamed(state_dict, {name: name for name in state_dict if name not in dropped})
