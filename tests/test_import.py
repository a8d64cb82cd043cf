"""Effects of importing the plugin, each in a fresh interpreter."""

import subprocess
import sys

import pytest
from small_model import ROOT

pytestmark = pytest.mark.slow


def run(code, *, path=(ROOT, )):
    """Run code in a fresh interpreter, outside the repository."""
    paths = ''.join(f'sys.path.insert(0, {str(p)!r})\n' for p in path)
    done = subprocess.run([sys.executable, '-c', f'import sys\n{paths}{code}'], cwd='/',
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


BOTH = '''
import importlib
first, second = {order}
a, b = importlib.import_module(first), importlib.import_module(second)
assert a is b
x = importlib.import_module(first + '.model.heads.deq')
y = importlib.import_module(second + '.model.heads.deq')
assert x is y and x.DEQDetRoIHead is a.DEQDetRoIHead
from mmdet.registry import MODELS
assert MODELS.get('DEQDetRoIHead') is a.DEQDetRoIHead
from projects.deqdet.model.position import PositionCodec as p
from deqdet.model.position import PositionCodec as q
assert p is q
import deqdet, projects.deqdet
assert projects.deqdet.DEQDet is deqdet.DEQDet
'''


@pytest.mark.parametrize('order', ["('deqdet', 'projects.deqdet')", "('projects.deqdet', 'deqdet')"])
def test_two_names_one_set_of_classes(order):
    run(BOTH.format(order=order), path=(ROOT, ROOT / 'projects'))


def test_repository_alone_is_enough():
    """Not installed, only the checkout on the path: importing `projects.deqdet` also provides `deqdet`."""
    run('''
sys.path = [p for p in sys.path if not p.endswith('projects')]
sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]
import projects.deqdet
from mmengine.config import Config
cfg = Config.fromfile(%r)
assert cfg.custom_imports.imports == ['deqdet']
from deqdet import DEQDet
''' % str(ROOT / 'configs/deqdet/deqdet_digits.py'))


def test_nothing_process_wide_changes():
    run('''
import random, warnings
import numpy, torch, mmengine, mmcv
torch.manual_seed(3), random.seed(3), numpy.random.seed(3)
def state():
    return (torch.get_float32_matmul_precision(), torch.get_default_dtype(), torch.get_num_threads(),
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32,
            torch.backends.cudnn.benchmark, torch.is_grad_enabled(), torch.random.get_rng_state().sum(),
            random.getstate(), str(numpy.random.get_state()))
import mmdet.registry, pycocotools.mask, scipy.optimize  # their own filters are not ours
before, filters = state(), len(warnings.filters)
import deqdet
assert state() == before
# It alone registers what configs name, for mmdet's own tools.
assert all(hasattr(deqdet, name) for name in deqdet.__all__)
from mmdet.registry import HOOKS, LOOPS, METRICS, OPTIM_WRAPPERS, RUNNERS, TRANSFORMS
for registry, names in ((HOOKS, 'CompleteCheckpointHook EquilibriumHook DataCheckHook CheckpointCheckHook'),
                        (LOOPS, 'ResumableTrainLoop'), (METRICS, 'CocoSubmissionMetric'),
                        (OPTIM_WRAPPERS, 'BFloat16OptimWrapper'), (RUNNERS, 'AccumulatingRunner')):
    assert all(registry.get(name) for name in names.split()), names
assert TRANSFORMS.get('LoadImageFromFile').__module__.startswith('deqdet')
from mmengine.config import Config
from mmengine.registry import DefaultScope
cfg = Config.fromfile(%r)
with DefaultScope.overwrite_default_scope('mmdet'):
    from mmdet.registry import MODELS
    MODELS.build(cfg.model)
after = state()
assert after[:7] == before[:7], (before[:7], after[:7])
assert not [f for f in warnings.filters if f[3] and 'deqdet' in str(f[3])]
''' % str(ROOT / 'configs/deqdet/deqdet_digits.py'), path=(ROOT, ROOT / 'projects'))
