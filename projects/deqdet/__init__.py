"""DEQDet, the deep equilibrium object detector, as a plugin of mmdetection.

Importing it registers the models, the hooks and optimiser wrapper around their training and, where mmcv
has no compiled operators, the stand-in for them.
"""

from ._alias import install_alias

install_alias(__name__)

from .compat.mmcv_ops import install_mmcv_ops  # noqa: E402

# mmdet imports mmcv.ops, so this comes before anything that imports mmdet.
install_mmcv_ops()

from . import engine  # noqa: E402
from .decoder_layer import AdaMixerHead  # noqa: E402
from .detector import DEQDet  # noqa: E402
from .errors import UsageError  # noqa: E402
from .neck import ChannelMapperWithGN  # noqa: E402
from .proposals import FixPositionEmbeddingRPNHead  # noqa: E402
from .roi_heads import DEQ_SparseRoIHead, DEQDetRoIHead, FFNDetRoIHead  # noqa: E402

__version__ = '1.0.0'

__all__ = [
    'AdaMixerHead', 'ChannelMapperWithGN', 'DEQ_SparseRoIHead', 'DEQDet', 'DEQDetInferencer', 'DEQDetRoIHead',
    'FFNDetRoIHead', 'FixPositionEmbeddingRPNHead', 'UsageError', '__version__', 'engine'
]


def __getattr__(name):
    # Training needs no visualiser and none of the tools behind the inferencer.
    if name == 'DEQDetInferencer':
        from .inference import DEQDetInferencer
        return DEQDetInferencer
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
