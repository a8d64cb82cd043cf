"""The golden cases of the tests, and how far rounding moves results.

DEQDET_GOLDEN may point to a folder of other cases in the same form.
"""

import copy
import functools
import os
from pathlib import Path

import torch
from deqdet.analysis.golden import HEADS, GoldenCase, golden_cases, relative_error

FOLDER = Path(os.environ.get('DEQDET_GOLDEN', Path(__file__).parent / 'data' / 'golden'))

# `growth` measures the effect of one rounding to float32, in float64. Float32 rounds every operation, and
# other processors add in another order: with AVX-512, AVX2 and no vectors, the official code and ours differ
# from float64, and from each other, by 0 to 4.3 times this effect.
ROUNDING = 2.0 ** -24
MULTIPLE = 32


@functools.cache
def load_case(name):
    """A case by name, read once."""
    return GoldenCase.load(FOLDER / name)


def case_names(heads=HEADS):
    """Names of the cases with one of these decoder heads."""
    return [folder.name for folder in golden_cases(FOLDER, heads)]


def growth(compute, model, tensors, draws=3):
    """How far results move when weights and inputs are rounded, in double precision.

    Args:
        compute (Callable): ``(model, tensors) -> dict[str, Tensor]``, all in float64.
        model, tensors: Rounded ``draws`` times at random.

    Returns:
        dict[str, float]: Largest relative change of each result, at least one rounding.
    """
    exact, largest = compute(model, tensors), {}
    for draw in range(draws):
        generator = torch.Generator().manual_seed(draw)

        def rounded(tensor, generator=generator):
            noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            return tensor * (1 + ROUNDING * noise)

        disturbed = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in disturbed.parameters():
                parameter.copy_(rounded(parameter))
        found = compute(disturbed, [rounded(tensor) for tensor in tensors])
        for name, value in found.items():
            largest[name] = max(largest.get(name, ROUNDING), relative_error(value, exact[name]))
    return largest
