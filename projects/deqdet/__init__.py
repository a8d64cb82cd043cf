"""DEQDet, the deep equilibrium object detector, as a plugin of mmdetection.

Importing it registers the models, the hooks and optimiser wrapper around their training and, where mmcv
has no compiled operators, the stand-in for them.
"""

from ._alias import install_alias

install_alias(__name__)

from .compat.mmcv_ops import install_mmcv_ops  # noqa: E402

# mmdet imports mmcv.ops, so this comes before anything that imports mmdet.
install_mmcv_ops()

from .errors import UsageError  # noqa: E402
from .model.decoder_layer import AdaMixerHead  # noqa: E402
from .model.detector import DEQDet  # noqa: E402
from .model.heads import DEQ_SparseRoIHead, DEQDetRoIHead, FFNDetRoIHead  # noqa: E402
from .model.neck import ChannelMapperWithGN  # noqa: E402
from .model.proposals import FixPositionEmbeddingRPNHead  # noqa: E402
from .version import __version__  # noqa: E402

__all__ = [
    'AdaMixerHead', 'ChannelMapperWithGN', 'DEQ_SparseRoIHead', 'DEQDet', 'DEQDetInferencer', 'DEQDetRoIHead',
    'FFNDetRoIHead', 'FixPositionEmbeddingRPNHead', 'UsageError', '__version__',
    'safe_checkpoint_loading'
]


def __getattr__(name):
    # Training needs no visualiser and none of the tools behind the inferencer.
    if name == 'DEQDetInferencer':
        from .inference import DEQDetInferencer
        return DEQDetInferencer
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
