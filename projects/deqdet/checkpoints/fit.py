"""How the tensors of a file fit those of a model, and the likely mistake if they do not."""

from dataclasses import dataclass
from functools import cached_property
from typing import Dict, List, Mapping, Optional, Tuple

from torch import Tensor, nn

from ..compat.checkpoint_loading import may_be_unused
from ..compat.load_hooks import read_through_hooks, unwrapped
from ..data.findings import some_of
from ..errors import UsageError
from .architecture import differences, is_classifier, is_of_masks, read_architecture
from .weight_names import foreign_prefixes, renamed, renamings


@dataclass(frozen=True)
class Fit:
    """Names and shapes of a file, together with those of a model.

    Attributes:
        file (dict[str, tuple]): Shape of each tensor of the file, without tensors that no computation uses.
        model (dict[str, tuple]): Shape of each tensor of the model.
    """

    file: Dict[str, tuple]
    model: Dict[str, tuple]

    @cached_property
    def wanted(self) -> Dict[str, tuple]:
        """Tensors of the model that a file must have; counters of batch norm may be missing."""
        return {name: shape for name, shape in self.model.items() if 'num_batches_tracked' not in name}

    @property
    def total(self) -> int:
        """Number of tensors that a file must have."""
        return len(self.wanted)

    @cached_property
    def missing(self) -> List[str]:
        """Tensors of the model that are not in the file."""
        return [name for name in self.wanted if name not in self.file]

    @cached_property
    def reshaped(self) -> Dict[str, Tuple[tuple, tuple]]:
        """Shapes in the file and in the model, where they differ."""
        return {name: (self.file[name], shape) for name, shape in self.wanted.items()
                if self.file.get(name, shape) != shape}

    @cached_property
    def extra(self) -> List[str]:
        """Tensors of the file that the model does not have."""
        return [name for name in self.file if name not in self.model]

    @cached_property
    def new_masks(self) -> List[str]:
        """Tensors of the model's mask heads, if the file has no mask heads."""
        # Batch norm adds its counter when it is loaded.
        if any(is_of_masks(name) for name in self.file if 'num_batches_tracked' not in name):
            return []
        return list(filter(is_of_masks, self.wanted))

    @cached_property
    def ignored_masks(self) -> List[str]:
        """Tensors of the file's mask heads, if the model has no mask heads."""
        return [] if any(map(is_of_masks, self.model)) else list(filter(is_of_masks, self.file))

    @property
    def fits_but_for_masks(self) -> bool:
        """Nothing differs, except that one of the two has mask heads and the other has none."""
        return (set(self.missing) == set(self.new_masks) and set(self.extra) == set(self.ignored_masks)
                and not self.reshaped)

    @property
    def fitting(self) -> int:
        """Number of the model's tensors that the file has with the same shape."""
        return self.total - len(self.missing) - len(self.reshaped)

    def differences(self) -> str:
        """The first tensors that do not fit, with their shapes."""
        parts = []
        masks = set(self.new_masks)
        missing = ['the mask heads'] * bool(masks) + [name for name in self.missing if name not in masks]
        if missing:
            parts.append(f'not in the file: {some_of(missing, 4)}')
        if self.reshaped:
            shapes = [f'{name} {file} in the file, {model} in the model'
                      for name, (file, model) in self.reshaped.items()]
            parts.append(f'of another shape: {some_of(shapes, 3)}')
        if self.extra and self.of_another_architecture():
            parts.append(f'not in the model: {some_of(self.extra, 4)}')
        return '; '.join(parts)

    def of_another_architecture(self) -> List[str]:
        """Properties in which the two detectors differ, each as a clause with its config key."""
        return differences(read_architecture(self.file), read_architecture(self.model))

    def error(self, name: str) -> UsageError:
        """The error to raise if the file, called ``name`` in the message, does not fit."""
        return UsageError(f'{name} does not fit the model: {self.fitting} of {self.total} tensors fit; '
                          f'{self.differences()}: {self.hint()}', 'checkpoint-mismatch')

    def hint(self) -> str:
        """The likely mistake and its fix."""
        if self.fits_but_for_masks and self.new_masks:
            return ('the file has no mask heads: use the config that it was trained with, or train masks '
                    'from it with tools/train.py CONFIG --cfg-options load_from=FILE')
        if self.fits_but_for_masks and self.ignored_masks:
            return 'the config has no mask_head; the mask heads of the file are ignored'
        foreign = foreign_prefixes(self.file, self.wanted)
        if foreign:
            first = next(iter(foreign))
            return (f'names in the file begin with {" or ".join(map(repr, foreign))}, and without it '
                    f'{foreign[first]} of the tensors fit: remove it with tools/checkpoint.py strip FILE '
                    f'NAME.pth --prefix {first}')
        clauses = self.of_another_architecture()
        masks = set(self.new_masks)
        others = [name for name in self.reshaped if not is_classifier(name)]
        others += [name for name in self.missing if name not in masks]
        if clauses and not others and self.reshaped:
            return (f'the file is of a model with {"; ".join(clauses)}; set num_classes to this number, or '
                    'use another file')
        if not clauses:
            part = _common_part(others)
            clauses = [f'another {part}'] if part else []
        clauses += ['no mask heads'] if masks else []
        return (f'the file is of a model with {"; ".join(clauses)}; ' if clauses else '') + \
            'use the config that it was trained with'


def fit_weights(file: Mapping[str, Tensor], model: nn.Module) -> Tuple[Dict[str, Tensor], Fit]:
    """Weights of a file under the names that a model loads, and how they fit.

    It runs the model's own load hooks, so it sees what they rename or copy, as torch does.

    Args:
        file (Mapping[str, Tensor]): State dict of the file.
        model (nn.Module): The model. Not changed.

    Returns:
        tuple[dict[str, Tensor], Fit]: The weights to load, with or without wrapper words in their names,
            whichever fits better; and where they differ from the model.
    """
    model = unwrapped(model)
    wanted = set(model.state_dict())
    tried = []
    for weights in renamings(file, wanted):
        # The model drops and logs these tensors when it loads; here they would be logged a second time.
        used = {name: name for name in weights if not may_be_unused(name) or name in wanted}
        fit = Fit(*read_through_hooks(renamed(weights, used), model))
        tried.append((weights, fit))
        if fit.fitting == fit.total and not fit.extra:
            break
    # The first one with the most fitting tensors and the fewest extra ones.
    return max(tried, key=lambda each: (each[1].fitting, -len(each[1].extra)))


def shapes_of(state_dict: Mapping[str, Tensor]) -> Dict[str, tuple]:
    """Shape of each tensor of a state dict."""
    return {name: tuple(value.shape) for name, value in state_dict.items() if isinstance(value, Tensor)}


def _common_part(names) -> Optional[str]:
    """The part of the detector (backbone, neck, ...) that contains all names."""
    parts = {name.split('.')[0] for name in names}
    return parts.pop() if len(parts) == 1 else None
