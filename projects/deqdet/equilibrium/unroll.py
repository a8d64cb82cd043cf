"""The refinement-aware gradient (RAG)."""

from typing import Callable, TypeVar

State = TypeVar('State')


def unroll(step: Callable[[State], State], state: State, num_steps: int) -> State:
    """Apply the implicit layer with gradient to a solved, detached state.

    With ``num_steps`` = 2 the gradient is [I + df/dy] df/d(.): the implicit function theorem for the two-step
    unrolled equation y* = f(x, f(x, y*)), with the inverse Jacobian replaced by the identity (supplement,
    section C, equation 8). One step gives the Jacobian-free gradient.

    Args:
        step (Callable): One application of the implicit layer.
        state (State): State on the solving path, without a graph.
        num_steps (int): Number of applications, at least 1.
    """
    for _ in range(num_steps):
        state = step(state)
    return state
