"""Gradients without the memory of the graph."""

from typing import Callable, TypeVar

from torch.utils.checkpoint import checkpoint

State = TypeVar('State')


def recomputed(step: Callable[..., State]) -> Callable[..., State]:
    """The same step, whose graph is built in the backward pass, and only while it is passed through.

    In the forward pass nothing is kept but the arguments. In the backward pass the step runs a second time,
    with the random state it had, right before its gradient is formed; so of any number of supervised
    positions one application of the layer is in memory at a time. The incoming gradient is there by then,
    loss scale and weights of single losses included, which makes it exact in every mode of training.

    Args:
        step (Callable): One application of a layer. What it closes over (features, parameters) gets its
            gradient too.

    Returns:
        Callable: The same function. Without gradient it is just called.
    """

    def apply(*args):
        return checkpoint(step, *args, use_reentrant=False)

    return apply
