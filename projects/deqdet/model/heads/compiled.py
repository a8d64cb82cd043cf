"""One refinement as a compiled program, for inputs where calls take longer than arithmetic."""

import threading
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional, Union

import torch
from mmengine.logging import print_log
from torch import Tensor

from ..state import DecoderState
from .precision import HalfPrecision
from .refinement import Refinement

Step = Union[Refinement, HalfPrecision]


class Compiler:
    """Compiles the refinement at the first call for a kind of shapes, and keeps the program for later calls.

    On a GPU the program is captured as a CUDA graph for each shape, and replayed. If compiling fails, for
    example without a C++ compiler on a CPU, the steps run without it, and one line reports this.

    Attributes:
        problem (str, optional): Why compiling failed.
    """

    def __init__(self) -> None:
        self._program: Optional[Callable] = None
        self._broken = False
        self.problem: Optional[str] = None
        # A CUDA graph writes to fixed memory, which the next replay overwrites: one call at a time.
        self._replaying = threading.Lock()

    def __call__(self, step: Step) -> Union[Step, 'CompiledStep']:
        """The compiled step; the step itself if compiling has failed."""
        return step if self._broken else CompiledStep(self, step)

    def __deepcopy__(self, memo: dict) -> 'Compiler':
        """A copy of the model compiles its own program."""
        return Compiler()

    def run(self, step: Step, state: DecoderState) -> DecoderState:
        """Apply the step once, without gradient."""
        if self._broken:
            return step(state)
        on_gpu = state.content.is_cuda
        if self._program is None:
            self._program = torch.compile(_apply, mode='reduce-overhead' if on_gpu else None)
        try:
            if not on_gpu:
                return self._program(step, state)
            with self._replaying:
                torch.compiler.cudagraph_mark_step_begin()
                answer = self._program(step, state)
                # Solvers keep states, so they need copies.
                copies: Any = [part if part is None else part.clone() for part in answer]
                return DecoderState(*copies)
        except Exception as error:  # compilers raise many kinds of errors; the step repeats its own error
            answer = step(state)
            self._broken = True
            reason = str(error).strip().splitlines() or [type(error).__name__]
            self.problem = reason[0]
            print_log(f'the refinement cannot be compiled, so it runs step by step: {reason[0]}',
                      logger='current', level=30)
            return answer


@dataclass(frozen=True)
class CompiledStep:
    """A step that runs as a compiled program.

    Attributes:
        compiler (Compiler): Holds the program.
        step (Refinement or HalfPrecision): What it computes.
    """

    compiler: Compiler
    step: Step

    def __call__(self, state: DecoderState) -> DecoderState:
        """Apply the layer once."""
        return self.compiler.run(self.step, state)

    def restrict(self, images: Tensor) -> 'CompiledStep':
        """The step for the images with these indices, has shape (K,)."""
        return replace(self, step=self.step.restrict(images))


def _apply(step, state):
    return step(state)
