"""The refinement layer as a program of torch.export."""

import pytest
import torch
from deqdet.model.sampling import make_pyramid
from deqdet.model.state import DecoderState
from exported import detector
from exported import program as recorded

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group('export')]  # one process records


@pytest.fixture(scope='module')
def program(tmp_path_factory):
    """Written and read again, as a user would."""
    path = tmp_path_factory.mktemp('program') / 'refinement.pt2'
    torch.export.save(recorded(), path)
    return torch.export.load(path).module()


@pytest.mark.parametrize('count, shape', [(1, (96, 96)), (4, (64, 160)), (5, (192, 128))])
@torch.no_grad()
def test_any_number_and_size(program, count, shape):
    model = detector()
    features = model.extract_feat(torch.randn(count, 3, *shape))
    corner, size = torch.rand(2, count, 12, 2) * 40
    box = torch.cat([corner, corner + size], dim=-1)
    state = DecoderState(position=torch.rand(count, 12, 4) * 5, content=torch.randn(count, 12, 64), box=box)
    pyramid = make_pyramid(features, model.roi_head.featmap_strides)
    expected = found = state
    for _ in range(2):
        expected = model.roi_head.bbox_head[-1](pyramid, expected)
        found = DecoderState(*program(list(features), *found[:3]))
    for part, true in zip(found, expected):
        torch.testing.assert_close(part, true, rtol=1e-4, atol=1e-4)
