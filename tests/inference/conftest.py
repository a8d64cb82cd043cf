"""One small detector for all tests of inference."""

import pytest
from detecting import write_detector
from mmengine.registry import DefaultScope


@pytest.fixture(scope='session')
def files(request, tmp_path_factory):
    """Config and checkpoint."""
    return write_detector(tmp_path_factory.mktemp('detector'), getattr(request, 'param', ''))


@pytest.fixture(scope='session', params=['local', 'global'])
def masked(request, tmp_path_factory):
    """An inferencer whose detections have masks."""
    from deqdet import DEQDetInferencer
    folder = tmp_path_factory.mktemp('masks')
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DEQDetInferencer(*write_detector(folder, request.param), show_progress=False)


@pytest.fixture(scope='session')
def inferencer(files):
    """An inferencer for them."""
    from deqdet import DEQDetInferencer
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DEQDetInferencer(*files, show_progress=False)
