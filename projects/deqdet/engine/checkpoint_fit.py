"""How the tensors of a file fit those of a model, and what the likely mistake is where they do not."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Dict, List, Mapping, Optional, Tuple

from torch import Tensor

from ..compat.checkpoint_loading import UNUSED_TENSORS
from .architecture import differences, is_classifier, read_architecture
from .findings import some_of


@dataclass(frozen=True)
class Fit:
    """Names and shapes of a file beside those of a model.

    Attributes:
        file (dict[str, tuple]): Shape of each tensor of the file, without those that no computation uses.
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
        """Number of the tensors that a file must have."""
        return len(self.wanted)

    @cached_property
    def missing(self) -> List[str]:
        """Tensors of the model that are not in the file."""
        return [name for name in self.wanted if name not in self.file]

    @cached_property
    def reshaped(self) -> Dict[str, Tuple[tuple, tuple]]:
        """Shape in the file and shape in the model, where they differ."""
        return {name: (self.file[name], shape) for name, shape in self.wanted.items()
                if self.file.get(name, shape) != shape}

    @cached_property
    def extra(self) -> List[str]:
        """Tensors of the file that the model does not have."""
        return [name for name in self.file if name not in self.model]

    @property
    def fitting(self) -> int:
        """Number of the model's tensors that the file has in their shape."""
        return self.total - len(self.missing) - len(self.reshaped)

    def differences(self) -> str:
        """The first of the tensors that do not fit, with their shapes."""
        parts = []
        if self.missing:
            parts.append(f'not in the file: {some_of(self.missing, 4)}')
        if self.reshaped:
            shapes = [f'{name} {file} in the file, {model} in the model'
                      for name, (file, model) in self.reshaped.items()]
            parts.append(f'of another shape: {some_of(shapes, 3)}')
        if self.extra and self.of_another_architecture():
            parts.append(f'not in the model: {some_of(self.extra, 4)}')
        return '; '.join(parts)

    def of_another_architecture(self) -> List[str]:
        """What the two detectors have in different numbers, one clause each with its config key."""
        return differences(read_architecture(self.file), read_architecture(self.model))

    def hint(self) -> str:
        """The likely mistake, and what to do."""
        clauses = self.of_another_architecture()
        others = [name for name in self.reshaped if not is_classifier(name)] + self.missing
        if clauses and not others and self.reshaped:
            return (f'the file is of a model with {"; ".join(clauses)}; set num_classes to it or take '
                    'another file')
        if not clauses:
            part = _common_part(others)
            clauses = [f'another {part}'] if part else []
        return (f'the file is of a model with {"; ".join(clauses)}; ' if clauses else '') + \
            'use the config that it was trained with'


def compare(file: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> Fit:
    """Names and shapes of a file against those of a model.

    Args:
        file (Mapping[str, Tensor]): State dict of the file; a prefix ``module.`` is ignored.
        model (Mapping[str, Tensor]): State dict of the model.

    Returns:
        Fit: Where they differ.
    """
    shapes, wanted = shapes_of(file), shapes_of(model)
    shapes = {re.sub(r'^module\.', '', name): shape for name, shape in shapes.items()}
    return Fit(file={name: shape for name, shape in shapes.items()
                     if UNUSED_TENSORS not in name or name in wanted}, model=wanted)


def shapes_of(state_dict: Mapping[str, Tensor]) -> Dict[str, tuple]:
    """Shape of each tensor of a state dict."""
    return {name: tuple(value.shape) for name, value in state_dict.items() if isinstance(value, Tensor)}


def _common_part(names) -> Optional[str]:
    """The part of the detector (backbone, neck, ...) that all names are in."""
    parts = {name.split('.')[0] for name in names}
    return parts.pop() if len(parts) == 1 else None
