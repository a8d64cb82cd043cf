"""The examples of CONTRIBUTING.md work as they stand there."""

import re
import textwrap
from pathlib import Path

import torch
from deqdet.equilibrium import SOLVERS

ROOT = Path(__file__).resolve().parents[2]


def example(title):
    """The Python code below a heading."""
    text = (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8').split(f'### {title}\n')[1]
    return textwrap.dedent(re.search(r'```python\n(.*?)```', text, re.DOTALL)[1])


class Number(tuple):
    """A state with one vector for each image."""

    def pack(self):
        return list(self)

    def unpack(self, parts):
        return Number(parts)


def test_solver():
    code = example('A solver').replace('from .solver', 'from deqdet.equilibrium.solver')
    try:
        exec(compile(code, 'damped.py', 'exec'), {})
        # Plain iteration would not converge: the slope is -1.5.
        path = SOLVERS['damped'](share=0.5)(
            lambda state: Number([1 - 1.5 * state[0]]), Number([torch.zeros(1, 1)]), 60,
            measure=dict(step=lambda before, after: (after[0] - before[0]).norm(dim=-1)))
    finally:
        SOLVERS.pop('damped', None)
    assert torch.allclose(path.final[0], torch.tensor([[0.4]]))
    assert path.residuals['step'][-1] < 1e-5


