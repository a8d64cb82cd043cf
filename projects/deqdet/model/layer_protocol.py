"""The interface of a decoder layer. Heads, criterion and detector use nothing else of a layer.

A new layer is an ``nn.Module`` that also inherits from :class:`DecoderLayer`, so that mypy checks it.
"""

from abc import abstractmethod
from typing import Any, Dict, Protocol, Sequence

from torch import Tensor, nn

from ..errors import UsageError
from .sampling import FeaturePyramid
from .state import DecoderState


class HasLosses(Protocol):
    """The attributes of a layer that :class:`SetCriterion` uses.

    Attributes:
        num_classes (int): Classes K.
        loss_cls, loss_bbox, loss_iou (nn.Module): Losses of mmdet, see :func:`check_losses`.
    """

    num_classes: int
    loss_cls: nn.Module
    loss_bbox: nn.Module
    loss_iou: nn.Module


class DecoderLayer(HasLosses, Protocol):
    """The initialisation layer g or the refinement layer f; a call applies it once.

    Attributes:
        content_dim (int): Width C of the contents.
        feat_channels (int): Channels C_f of the features.

    If the layer has ``sampling_points(state)``, pictures also show its sampling points.
    """

    content_dim: int
    feat_channels: int

    def __call__(self, *args: Any, **kwargs: Any) -> DecoderState:
        """As in ``nn.Module``: hooks and :meth:`forward`."""

    def forward(self, pyramid: FeaturePyramid, state: DecoderState, *, classify: bool = True) -> DecoderState:
        """Apply the layer once.

        Args:
            pyramid (FeaturePyramid): Feature levels with C_f channels, of B images.
            state (DecoderState): Incoming state of B images, or several states of each.
            classify (bool): Compute logits too. The steps to the equilibrium do not use them.

        Returns:
            DecoderState: Outgoing state. No gradient runs from its content to the incoming position.
        """

    @abstractmethod
    def classify(self, content: Tensor) -> Tensor:
        """Class scores of an outgoing state.

        Args:
            content (Tensor): Content vectors, has shape (B, N, C).

        Returns:
            Tensor: Before the sigmoid, in float32 or float64, has shape (B, N, K).
        """

    def is_lean(self, content: Tensor) -> bool:
        """Whether the graph of one application to these contents, has shape (B, N, C), is small.

        If it is, the head keeps the graph and unrolls several supervision positions as one batch. Otherwise
        the head recomputes the whole layer in the backward pass.
        """
        return False

    def heavy_weights(self) -> Dict[str, nn.Parameter]:
        """Parameters, by name, that take the most time to read.

        A head that solves in half precision converts them once for a whole path.
        """
        return {}


# isinstance() would not find submodules and parameters, which nn.Module adds only at run time.
_MEMBERS = [*HasLosses.__annotations__, *DecoderLayer.__annotations__,
            *(name for name in vars(DecoderLayer) if not name.startswith('_'))]


def check_layers(layers: Sequence[nn.Module], *, name: str) -> None:
    """Check that the layers of a head are decoder layers for the same classes and features.

    Args:
        layers (Sequence[nn.Module]): Layers of one head.
        name (str): Name of the head in messages.

    Raises:
        UsageError: If they are not.
    """
    for layer in layers:
        missing = [member for member in _MEMBERS if not hasattr(layer, member)]
        if missing:
            raise UsageError(f'{name}: bbox_head.type={type(layer).__name__} is not a decoder layer, it has '
                             f'no {", ".join(missing)}; use AdaMixerHead', 'bad-setting')
    check_same(layers, 'num_classes', name=name)
    check_same(layers, 'feat_channels', name=name)


def check_same(layers: Sequence[nn.Module], member: str, *, name: str) -> None:
    """Check that a member of all layers has the same value; for the arguments see :func:`check_layers`."""
    values = [getattr(layer, member) for layer in layers]
    if len(set(values)) > 1:
        raise UsageError(f'{name}: all entries of bbox_head must have the same {member}, not {values}',
                         'settings-mismatch')
