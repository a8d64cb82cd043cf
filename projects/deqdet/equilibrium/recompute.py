"""Gradients without the memory of the graph."""

from typing import Callable, TypeVar

from torch.utils.checkpoint import checkpoint

State = TypeVar('State')


def recomputed(step: Callable[..., State]) -> Callable[..., State]:
    """The same step, but its graph is built in the backward pass.

    The forward pass keeps only the arguments. The backward pass runs the step a second time, with the same
    random state, just before its gradient is needed. So only one application of the layer is in memory at a
    time, for any number of supervised positions. The incoming gradient already includes the loss scale and
    the weights of single losses, so the result is exact in every mode of training.

    Args:
        step (Callable): One application of a layer. Features and parameters in its closure get gradients too.

    Returns:
        Callable: The same function. Without gradient it only calls the step.
    """

    def apply(*args):
        return checkpoint(step, *args, use_reentrant=False)

    return apply
