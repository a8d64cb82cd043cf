"""States of several images: named tuples of tensors whose first dimension is the image."""

from typing import Any, TypeVar

from torch import Tensor

# Any named tuple of tensors; `typing` has no type for it.
State = TypeVar('State', bound=Any)


def take(state: State, images: Tensor) -> State:
    """The states of the images with these indices, int64, has shape (K,); parts may be None."""
    return type(state)(*(None if part is None else part[images] for part in state))


def put(state: State, images: Tensor, values: State) -> State:
    """Replace the states of some images.

    Args:
        state (State): Parts of shape (B, ...).
        images (Tensor): Indices, int64, has shape (K,).
        values (State): Parts of shape (K, ...).

    Returns:
        State: Parts of shape (B, ...). A part that is None in ``state`` is zero for the other images.
    """
    parts = []
    for part, value in zip(state, values):
        if part is None and value is not None:
            part = value.new_zeros(len(state[0]), *value.shape[1:])
        parts.append(None if value is None else part.index_copy(0, images, value))
    return type(state)(*parts)
