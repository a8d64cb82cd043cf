"""One refinement as a compiled program: where calls, not arithmetic, take the time."""

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
    """Compiles the refinement at its first call for shapes of a kind, and keeps the program for later ones.

    On a GPU the program is captured as a CUDA graph, one for each shape, and replayed. Where compiling fails,
    as without a C++ compiler on a CPU, the steps run as they are, which is said once.

    Attributes:
        problem (str, optional): Why it failed.
    """

    def __init__(self) -> None:
        self._program: Optional[Callable] = None
        self._broken = False
        #: Why the step could not be compiled.
        self.problem: Optional[str] = None
        # A CUDA graph answers in memory of its own, which the next replay overwrites: one call at a time.
        self._replaying = threading.Lock()

    def __call__(self, step: Step) -> Union[Step, 'CompiledStep']:
        """The step, compiled where that works."""
        return step if self._broken else CompiledStep(self, step)

    def __deepcopy__(self, memo: dict) -> 'Compiler':
        """A model's copy compiles for itself."""
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
                # Solvers keep states.
                copies: Any = [part if part is None else part.clone() for part in answer]
                return DecoderState(*copies)
        except Exception as error:  # compilers fail in many ways; an error of our own comes again
            answer = step(state)
            self._broken = True
            reason = str(error).strip().splitlines() or [type(error).__name__]
            self.problem = reason[0]
            print_log(f'the refinement cannot be compiled here, it runs step by step: {reason[0]}',
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
        """The same for some images, given by their indices, has shape (K,)."""
        return replace(self, step=self.step.restrict(images))


def _apply(step, state):
    return step(state)
