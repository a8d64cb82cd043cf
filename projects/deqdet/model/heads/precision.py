"""Solving in half precision: a fixed point does not depend on the path to it."""

from copy import copy
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Any, Dict, Literal, Optional, Union

import torch
from mmengine.logging import print_log
from pydantic import Field
from torch import Tensor, nn

from ..state import DecoderState
from .refinement import Refinement

#: Name of a half precision in configs.
HalfType = Annotated[Optional[Literal['bfloat16', 'float16']],
                     Field(description='None or one of bfloat16, float16')]


@lru_cache
def supported_dtype(dtype: str, device_type: str) -> Optional[torch.dtype]:
    """The half precision, if a device computes faster in it than in float32.

    Args:
        dtype (str): ``'bfloat16'`` or ``'float16'``.
        device_type (str): ``'cpu'`` or ``'cuda'``.

    Returns:
        torch.dtype: None, with one line in the log, if the device has no instructions for it.
    """
    if device_type == 'cuda':
        there = dtype == 'float16' or torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Without these instructions torch emulates half precision, slower than float32.
        probes = dict(bfloat16=('_is_avx512_bf16_supported', '_is_amx_tile_supported'),
                      float16=('_is_amx_fp16_supported', ))[dtype]
        there = device_type == 'cpu' and any(getattr(torch.cpu, probe, bool)() for probe in probes)
    if not there:
        print_log(f'this {device_type} has no instructions for {dtype}: the equilibrium is solved in float32',
                  logger='current')
    return getattr(torch, dtype) if there else None


@lru_cache
def _report_double(dtype):
    print_log(f'the model is in double precision: solve_dtype={dtype!r} has no effect', logger='current')


def in_half_precision(refinement: Refinement, dtype: Optional[str]) -> Union[Refinement, 'HalfPrecision']:
    """A refinement in half precision, if requested and supported by the device.

    Args:
        refinement (Refinement): f(x, .) in float32; in float64 it is returned unchanged.
        dtype (str, optional): ``'bfloat16'`` or ``'float16'``.

    Returns:
        HalfPrecision: Otherwise the refinement itself.
    """
    if dtype and refinement.pyramid.dtype == torch.float64:
        _report_double(dtype)
        return refinement
    found = dtype and supported_dtype(dtype, refinement.pyramid.device.type)
    return HalfPrecision.of(refinement, found) if found else refinement


@dataclass(frozen=True)
class HalfPrecision:
    """A refinement in half precision, for solving without gradient.

    Matrix products, which take most of the time, are computed in half precision. Contents between them,
    coordinates and boxes stay in float32, as in training with autocast.

    Attributes:
        refinement (Refinement): f(x, .); its layer has ``weights`` and shares the rest with the model's.
        dtype (torch.dtype): The half precision.
        weights (dict[str, Tensor]): Parameters of the layer that are copied to half precision once for a
            whole path, because it saves time.
    """

    refinement: Refinement
    dtype: torch.dtype
    weights: Dict[str, Tensor]

    @classmethod
    def of(cls, refinement: Refinement, dtype: torch.dtype) -> 'HalfPrecision':
        """Copy the weights; later changes of the model's weights have no effect."""
        weights = {name: parameter.detach().to(dtype)
                   for name, parameter in refinement.layer.heavy_weights().items()}
        # `functional_call` would change the model's own layer while other threads use it.
        layer = _with_weights(refinement.layer, weights)
        return cls(replace(refinement, layer=layer), dtype, weights)

    def __call__(self, state: DecoderState) -> DecoderState:
        """Apply the layer once."""
        with torch.autocast(state.content.device.type, dtype=self.dtype, cache_enabled=False):
            return self.refinement(state)

    def restrict(self, images: Tensor) -> 'HalfPrecision':
        """The step for the images with these indices, has shape (K,)."""
        return HalfPrecision(self.refinement.restrict(images), self.dtype, self.weights)


def _with_weights(layer: Any, weights: Dict[str, Tensor]) -> Any:
    """A copy of a layer with these weights as parameters; it shares everything else."""
    other = copy(layer)
    other._parameters, other._modules = dict(layer._parameters), dict(layer._modules)
    parts: Dict[str, Dict[str, Tensor]] = {}
    for name, weight in weights.items():
        part, _, rest = name.partition('.')
        if rest:
            parts.setdefault(part, {})[rest] = weight
        else:
            other._parameters[part] = nn.Parameter(weight, requires_grad=False)
    for part, own in parts.items():
        other._modules[part] = _with_weights(layer.get_submodule(part), own)
    return other
