"""Every test works on the plugin as a user gets it: imported before anything of mmdet."""

import logging

import deqdet  # noqa: F401  (registers the models, installs the stand-in operators)
import pytest
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def mmdet_scope():
    """Type names resolve in mmdet's registries, as they do under a Runner."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture
def log():
    """Messages that mmengine's logger gets during the test."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)
