"""DEQDet, the deep equilibrium object detector, as a plugin of mmdetection.

The import registers the models, and the hooks and optimiser wrapper for their training. If mmcv has no
compiled operators, it also installs a replacement for them.
"""

from ._alias import install_alias

install_alias(__name__)

from .compat.mmcv_ops import install_mmcv_ops  # noqa: E402

# mmdet imports mmcv.ops, so this must run before any import of mmdet.
install_mmcv_ops()

from .compat.imports import import_mmdet  # noqa: E402

# This must run before other imports of mmdet, so that mmdet does not print hints about optional packages.
import_mmdet()

# These register the hooks, metrics, image loader, training loop and optimiser wrapper that configs name.
from . import checkpoints, data, training  # noqa: E402
from .compat.checkpoint_loading import safe_checkpoint_loading  # noqa: E402
from .errors import UsageError  # noqa: E402
from .model.decoder_layer import AdaMixerHead  # noqa: E402
from .model.detector import DEQDet  # noqa: E402
from .model.efficientnet_lite import EfficientNetLite  # noqa: E402
from .model.heads import DEQ_SparseRoIHead, DEQDetRoIHead, FFNDetRoIHead  # noqa: E402
from .model.neck import ChannelMapperWithGN  # noqa: E402
from .model.proposals import FixPositionEmbeddingRPNHead  # noqa: E402
from .model.region_proposals import RegionQueryHead  # noqa: E402
from .version import __version__  # noqa: E402

__all__ = [
    'AdaMixerHead', 'ChannelMapperWithGN', 'DEQ_SparseRoIHead', 'DEQDet', 'DEQDetInferencer', 'DEQDetRoIHead',
    'EfficientNetLite', 'FFNDetRoIHead', 'FixPositionEmbeddingRPNHead', 'RegionQueryHead', 'UsageError',
    '__version__', 'checkpoints', 'data', 'safe_checkpoint_loading', 'training'
]


def __getattr__(name):
    # Imported on first use: training needs neither a visualiser nor the other tools of the inferencer.
    if name == 'DEQDetInferencer':
        from .inference import DEQDetInferencer
        return DEQDetInferencer
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
