"""Pretrained weights resolve without torchvision; the error explains missing ones."""

from urllib.error import URLError

import pytest
from deqdet.compat import pretrained
from deqdet.compat.pretrained import explain_missing_weights, resolve_pretrained
from refusals import refused


@pytest.fixture(params=[ImportError('none'), RuntimeError('no operator torchvision::nms')])
def no_torchvision(request, monkeypatch):
    def fail(name):
        raise request.param

    monkeypatch.setattr(pretrained.importlib, 'import_module', fail)


def test_a_name_is_an_address(no_torchvision):
    address = 'https://download.pytorch.org/models/resnet50-'
    assert resolve_pretrained('torchvision://resnet50').startswith(address)
    assert resolve_pretrained('modelzoo://resnet50').startswith(address)


@pytest.mark.parametrize('url', ['torchvision://of_tomorrow', 'weights/resnet50.pth',
                                 'https://example.com/resnet50.pth', 'open-mmlab://resnet50'])
def test_anything_else_stays(no_torchvision, url):
    assert resolve_pretrained(url) == url


def test_a_working_torchvision_resolves_its_own_names(monkeypatch):
    monkeypatch.setattr(pretrained.importlib, 'import_module', lambda name: None)
    assert resolve_pretrained('torchvision://resnet50') == 'torchvision://resnet50'


@pytest.mark.parametrize('error, checkpoint, code', [
    (URLError('no route\nto host'), 'https://x/resnet50.pth', 'download-failed'),
    (FileNotFoundError('no route'), 'no/such.pth', 'missing-file'),
    (EOFError('no route'), 'half.pth', 'bad-checkpoint')])
def test_missing_weights_are_explained(error, checkpoint, code):
    with refused(code, checkpoint, 'no route', '--cfg-options model.backbone.init_cfg.checkpoint=FILE',
                 '--cfg-options model.backbone.init_cfg=None'):
        raise explain_missing_weights(error, checkpoint, 'model.backbone.init_cfg')
