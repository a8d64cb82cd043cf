"""tools/checkpoint.py on files of real trainings and on files in the layout of the released models."""

import hashlib
import os
import pickle
import re
import sys

import pytest
import torch
from data.tiny_coco import NO_PRETRAINED, write_config, write_dataset
from mmengine.config import Config
from released import write_released
from small_model import ROOT, build

CONFIGS = ROOT / 'configs'


def load(path):
    return torch.load(path, map_location='cpu', weights_only=False)


def status_of(call, *words):
    with pytest.raises(SystemExit) as caught:
        call('checkpoint.py', *words)
    return caught.value.code


@pytest.fixture
def trained(call, tmp_path):
    """A checkpoint of the training tool, with the moving average of the weights."""
    write_config(tmp_path / 'tiny.py', write_dataset(tmp_path / 'data'))
    call('train.py', 'tiny.py', '--work-dir', 'work', '--cfg-options', NO_PRETRAINED,
         'train_cfg.val_interval=5', 'default_hooks.ema.type=EMAHook', 'default_hooks.ema.momentum=0.5')
    return tmp_path / 'work' / 'epoch_1.pth'


@pytest.fixture
def sparse(tmp_path):
    """A DEQ Sparse R-CNN, whose stages share their tensors, except the first stage."""
    cfg = Config.fromfile(str(CONFIGS / 'sparse_rcnn' / 'deq_sparse_rcnn_digits.py'))
    state_dict = build(cfg.model).state_dict()
    path = tmp_path / 'sparse.pth'
    torch.save(dict(state_dict=state_dict, meta=dict(epoch=8)), path)
    return path


@pytest.fixture
def masked(tmp_path):
    """A detector with local masks."""
    cfg = Config.fromfile(str(CONFIGS / 'deqdet' / 'deqdet_digits_mask-local.py'))
    path = tmp_path / 'masked.pth'
    torch.save(dict(state_dict=build(cfg.model).state_dict(), meta=dict(epoch=8)), path)
    return path


class TestInspect:

    def test_released(self, call, tmp_path, capsys):
        write_released(tmp_path / 'deqdet_r50_2x.pth', 'deqdet_r50_2x')
        call('checkpoint.py', 'inspect', 'deqdet_r50_2x.pth')
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith('deqdet_r50_2x.pth: 0.')
        assert lines[1] == 'keys: meta, state_dict, message_hub, optimizer, param_schedulers'
        assert lines[2] == (
            'from: epoch 12, iteration 87960, mmengine 0.7.3, saved 20230102_030405, seed 1234, '
            'experiment eqdet_20230101; config: yes')
        assert lines[3] == 'classes: 80 (person, bicycle, car, motorcycle, airplane and 75 more)'
        assert lines[4].startswith('architecture: ResNet-50; 256 channels of the features; 300 queries;')
        amounts = {line.split(':')[0].strip(): line.split(': ')[1] for line in lines[5:]}
        # 77.8 M of 101.1 M values are used.
        assert amounts['weights'] == '396 tensors, 77.9 M values, float32, int64'
        assert amounts['backbone'] == '318 tensors, 23.6 M values'
        assert amounts['rpn_head'] == '2 tensors, 78000 values'
        for layer in (0, 1):
            assert amounts[f'roi_head.bbox_head.{layer}'] == '33 tensors, 22.7 M values'
        assert amounts['not used by any computation'].startswith('24 tensors, 23.3 M values')
        assert amounts['optimiser'] == 'yes (261 groups of parameters)'
        assert amounts['moving average (EMA)'] == 'no'
        assert amounts['log (message_hub)'] == 'yes (2 curves)'

    def test_of_a_training(self, call, trained, capsys):
        call('checkpoint.py', 'inspect', trained)
        out = capsys.readouterr().out
        assert 'epoch 1, iteration 2' in out and 'classes: 2 (fig, kiwi)' in out
        assert 'moving average (EMA): yes' in out
        assert 'optimiser: yes (1 groups of parameters)' in out

    def test_masks(self, call, masked, capsys):
        call('checkpoint.py', 'inspect', masked)
        lines = capsys.readouterr().out.splitlines()
        architecture, = (line for line in lines if line.startswith('architecture: '))
        assert architecture.endswith('; local masks (convolutions: 2 of 64 channels)')
        amounts = {line.split(':')[0].strip(): line.split(': ')[1] for line in lines if ': ' in line}
        for number in (0, 1):
            assert re.fullmatch(r'\d+ tensors, 0\.\d M values', amounts[f'roi_head.mask_head.{number}'])
        assert 'not used by any computation' not in amounts

    def test_shared_tensors_count_once(self, call, sparse, capsys):
        call('checkpoint.py', 'inspect', sparse)
        lines = {line.split(':')[0].strip(): line for line in capsys.readouterr().out.splitlines()}
        assert 'shared' not in lines['roi_head.bbox_head.1']
        assert '0 tensors, 0 values' in lines['roi_head.bbox_head.2']
        assert 'shared with parts above' in lines['roi_head.bbox_head.2']

    def test_nothing_but_weights(self, call, tmp_path, capsys):
        torch.save(torch.nn.Linear(2, 3).state_dict(), tmp_path / 'weights.pth')
        call('checkpoint.py', 'inspect', 'weights.pth')
        out = capsys.readouterr().out
        assert 'keys: only weights' in out and 'weights: 2 tensors, 9 values' in out
        assert 'architecture: unknown' in out and 'optimiser' not in out


class TestCompare:

    def test_the_released_model_fits_its_config(self, call, tmp_path, capsys):
        write_released(tmp_path / 'model.pth', 'deqdet_r50_1x')
        config = CONFIGS / 'deqdet' / 'deqdet_r50_1x_coco.py'
        assert status_of(call, 'compare', 'model.pth', config) == 0
        line, = capsys.readouterr().out.strip().splitlines()
        assert line.startswith('model.pth has 343 of 343 tensors of the model of ')
        assert status_of(call, 'compare', 'model.pth', config, '--cfg-options',
                         'model.rpn_head.num_proposals=300') == 1
        first, second, last = capsys.readouterr().out.strip().splitlines()
        assert ' '.join(first.split()) == (
            'of another shape rpn_head.init_proposal_bboxes.weight (100, 4) in the file, '
            '(300, 4) in the model')
        assert 'rpn_head.init_proposal_features.weight' in second
        assert '341 of 343' in last and '100 queries instead of 300 (model.rpn_head.num_proposals' in last

    def test_missing_and_extra(self, call, trained, capsys):
        checkpoint = load(trained)
        weights = checkpoint['state_dict']
        weights['surplus'] = weights.pop('bbox_head.retina_reg.bias')
        torch.save(checkpoint, 'other.pth')
        assert status_of(call, 'compare', 'other.pth', 'tiny.py') == 1
        first, second, last = capsys.readouterr().out.strip().splitlines()
        assert first.split() == 'missing in the file bbox_head.retina_reg.bias (4,)'.split()
        assert second.split() == 'not in the model surplus (4,)'.split()
        assert 'and 1 others' in last

    def test_masks(self, call, masked, capsys):
        configs = {kind: CONFIGS / 'deqdet' / f'deqdet_digits{kind}.py' for kind in ('', '_mask-local')}
        assert status_of(call, 'compare', masked, configs['_mask-local']) == 0
        assert len(capsys.readouterr().out.strip().splitlines()) == 1
        assert status_of(call, 'compare', masked, configs['']) == 1
        *names, last = capsys.readouterr().out.strip().splitlines()
        assert all(name.startswith('not in the model     roi_head.mask_head.') for name in names)
        assert any('instance_interactive_conv' in name for name in names)
        assert last.endswith('the config has no mask_head; the mask heads of the file are ignored')

    def test_config_without_a_model(self, refused, trained, tmp_path):
        (tmp_path / 'empty.py').write_text('work_dir = "here"')
        line = refused('checkpoint.py', 'compare', trained, 'empty.py')
        assert 'empty.py has no model' in line and line.endswith(' [bad-config]')
        line = refused('checkpoint.py', 'compare', trained, 'gone.py')
        assert ' gone.py ' in line and line.endswith(' [missing-file]')


class TestStrip:

    def test_released(self, call, tmp_path, capsys):
        source = write_released(tmp_path / 'released.pth', 'deqdet_r50_1x')
        call('checkpoint.py', 'strip', source, 'out/deqdet.pth')
        path, = (tmp_path / 'out').iterdir()
        digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        assert path.name == f'deqdet-{digits}.pth'
        assert f'{path.name}: 396 tensors' in capsys.readouterr().out
        # Only tensors and plain containers, so no allow-list is needed.
        content = torch.load(path, weights_only=True)
        assert set(content) == {'meta', 'state_dict'}
        before = load(source)['state_dict']
        assert list(content['state_dict']) == [
            key for key in before if 'instance_interactive_conv' not in key]
        assert set(content['meta']) == {'dataset_meta', 'epoch', 'iter', 'cfg', 'mmengine_version'}
        assert content['meta']['dataset_meta']['classes'][16] == 'dog'

    def test_the_same_content_has_the_same_name(self, call, refused, trained, tmp_path):
        call('checkpoint.py', 'strip', trained, 'a/model.pth', '--no-config')
        call('checkpoint.py', 'strip', trained, 'b/model-01234567.pth', '--no-config')
        (first, ), (second, ) = ((tmp_path / folder).iterdir() for folder in 'ab')
        assert first.name == second.name and first.read_bytes() == second.read_bytes()
        assert 'cfg' not in load(first)['meta']
        # A second strip changes nothing.
        line = refused('checkpoint.py', 'strip', first, first)
        assert first.name in line and '--force' in line and '[output-exists]' in line
        call('checkpoint.py', 'strip', first, first, '--force')
        assert first.read_bytes() == second.read_bytes() and len(list((tmp_path / 'a').iterdir())) == 1

    def test_average_and_weights_themselves(self, call, refused, trained, tmp_path):
        for folder, options in (('plain', []), ('average', ['--ema']), ('raw', ['--no-ema'])):
            call('checkpoint.py', 'strip', trained, f'{folder}/model.pth', *options)
        plain, average, raw = (load(next((tmp_path / folder).iterdir()))['state_dict']
                               for folder in ('plain', 'average', 'raw'))
        name = 'bbox_head.retina_cls.weight'
        assert torch.equal(plain[name], average[name]) and not torch.equal(plain[name], raw[name])
        assert plain.keys() == raw.keys()
        # A training would continue with the weights themselves.
        assert torch.equal(raw[name], load(trained)['ema_state_dict'][f'module.{name}'])
        stripped, = (tmp_path / 'plain').iterdir()
        line = refused('checkpoint.py', 'strip', stripped, 'x.pth', '--ema')
        assert 'ema_state_dict' in line and '--ema' in line and '[bad-argument]' in line

    def test_the_test_tool_takes_it(self, call, trained, tmp_path):
        call('checkpoint.py', 'strip', trained, 'model.pth')
        stripped, = tmp_path.glob('model-*.pth')
        call('test.py', 'tiny.py', trained, '--out', 'before.pkl')
        call('test.py', 'tiny.py', stripped, '--out', 'after.pkl')
        same_predictions(tmp_path / 'before.pkl', tmp_path / 'after.pkl')

    def test_shared_tensors_stay_shared(self, call, sparse, tmp_path):
        call('checkpoint.py', 'strip', sparse, 'out.pth')
        stripped, = tmp_path.glob('out-*.pth')
        assert stripped.stat().st_size < 1.05 * sparse.stat().st_size
        same_weights(load(stripped)['state_dict'], load(sparse)['state_dict'])

    def test_mask_heads_are_kept(self, call, masked, tmp_path):
        call('checkpoint.py', 'strip', masked, 'out.pth')
        stripped, = tmp_path.glob('out-*.pth')
        same_weights(load(stripped)['state_dict'], load(masked)['state_dict'])

    def test_another_ending(self, refused, trained):
        line = refused('checkpoint.py', 'strip', trained, 'model.safetensors')
        assert 'must end in .pth' in line and 'convert' in line


def same_predictions(before, after):
    for one, two in zip(pickle.loads(before.read_bytes()), pickle.loads(after.read_bytes())):
        assert one['img_id'] == two['img_id']
        for key in ('bboxes', 'scores', 'labels'):
            assert torch.equal(one['pred_instances'][key], two['pred_instances'][key]), key


def same_weights(one, two):
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert value.dtype == two[name].dtype and torch.equal(value, two[name]), name


class TestConvert:

    @pytest.fixture(autouse=True)
    def library(self):
        return pytest.importorskip('safetensors.torch')

    def test_the_tools_take_it(self, call, trained, tmp_path, capsys):
        call('checkpoint.py', 'convert', trained, 'model.safetensors')
        call('test.py', 'tiny.py', trained, '--out', 'before.pkl')
        call('test.py', 'tiny.py', 'model.safetensors', '--out', 'after.pkl')
        same_predictions(tmp_path / 'before.pkl', tmp_path / 'after.pkl')
        call('train.py', 'tiny.py', '--work-dir', 'second', '--cfg-options', NO_PRETRAINED,
             'load_from=model.safetensors', 'optim_wrapper.optimizer.lr=0.0', 'train_cfg.val_interval=5')
        name = 'bbox_head.retina_cls.weight'
        assert torch.equal(load('second/epoch_1.pth')['state_dict'][name], load(trained)['state_dict'][name])
        capsys.readouterr()
        call('checkpoint.py', 'inspect', 'model.safetensors')
        assert 'classes: 2 (fig, kiwi)' in capsys.readouterr().out

    def test_classes_and_config_come_back(self, call, trained, tmp_path):
        call('checkpoint.py', 'convert', trained, 'model.safetensors')
        call('checkpoint.py', 'strip', 'model.safetensors', 'model.pth')
        call('checkpoint.py', 'strip', trained, 'direct.pth')
        one, two = (load(next(tmp_path.glob(f'{name}-*.pth'))) for name in ('model', 'direct'))
        same_weights(one['state_dict'], two['state_dict'])
        assert one['meta'] == two['meta'] and one['meta']['dataset_meta']['classes'] == ('fig', 'kiwi')

    def test_shared_tensors_are_written_once(self, call, sparse, library, tmp_path):
        from deqdet.compat.safetensors_loading import read_safetensors
        call('checkpoint.py', 'convert', sparse, 'sparse.safetensors')
        assert (tmp_path / 'sparse.safetensors').stat().st_size < 1.05 * sparse.stat().st_size
        same_weights(read_safetensors('sparse.safetensors')['state_dict'], load(sparse)['state_dict'])
        # mmdet's own function can load it, too.
        cfg = Config.fromfile(str(CONFIGS / 'sparse_rcnn' / 'deq_sparse_rcnn_digits.py'))
        model = build(cfg.model)
        torch.nn.init.zeros_(model.roi_head.bbox_head[1].fc_cls.weight)
        library.load_model(model, 'sparse.safetensors')
        same_weights(model.state_dict(), load(sparse)['state_dict'])

    def test_it_cannot_be_resumed(self, call, refused, trained):
        call('checkpoint.py', 'convert', trained, 'model.safetensors')
        line = refused('train.py', 'tiny.py', '--resume', 'model.safetensors', '--cfg-options', NO_PRETRAINED)
        assert 'model.safetensors' in line and 'load_from=FILE' in line and '[resume-mismatch]' in line

    def test_damaged(self, call, refused, trained, tmp_path):
        call('checkpoint.py', 'convert', trained, 'model.safetensors')
        path = tmp_path / 'model.safetensors'
        path.write_bytes(path.read_bytes()[:5000])
        for words in (['checkpoint.py', 'inspect', path], ['test.py', 'tiny.py', path]):
            line = refused(*words)
            assert 'model.safetensors' in line and '5000 bytes' in line and '[bad-checkpoint]' in line

    def test_names_and_what_is_there(self, call, refused, trained, tmp_path):
        assert 'must end in .safetensors' in refused('checkpoint.py', 'convert', trained, 'model.pth')
        (tmp_path / 'model.safetensors').write_text('mine')
        assert '[output-exists]' in refused('checkpoint.py', 'convert', trained, 'model.safetensors')
        assert (tmp_path / 'model.safetensors').read_text() == 'mine'
        call('checkpoint.py', 'convert', trained, 'model.safetensors', '--force')
        assert (tmp_path / 'model.safetensors').stat().st_size > 4
        # The permissions of the model are those of other new files.
        (tmp_path / 'file').touch()
        assert (tmp_path / 'model.safetensors').stat().st_mode == (tmp_path / 'file').stat().st_mode


def test_without_safetensors(refused, trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'safetensors', None)
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    line = refused('checkpoint.py', 'convert', trained, 'model.safetensors')
    assert 'pip install safetensors' in line
    assert not list(tmp_path.glob('model*'))
    (tmp_path / 'model.safetensors').write_bytes(b'something')
    assert 'pip install safetensors' in refused('test.py', 'tiny.py', 'model.safetensors')


class _Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.makedirs, (str(self.folder), 0o777, True)


class TestBadFiles:

    COMMANDS = [['inspect'], ['compare', 'tiny.py'], ['strip', 'out.pth'], ['convert', 'out.safetensors']]

    @pytest.mark.parametrize('command', COMMANDS, ids=lambda words: words[0])
    def test_one_line_each(self, refused, tmp_path, command):
        write_config(tmp_path / 'tiny.py', tmp_path)
        name, *more = command

        def check(path, code, word=''):
            line = refused('checkpoint.py', name, path, *more)
            assert path in line and f'[{code}]' in line and word in line

        check('gone.pth', 'missing-file')
        (tmp_path / 'page.pth').write_text('<!DOCTYPE html>')
        check('page.pth', 'bad-checkpoint', '15 bytes')
        torch.save(dict(epoch=3), 'other.pth')
        check('other.pth', 'bad-checkpoint', 'epoch')
        check('https://example.com/model.pth', 'bad-argument')
        assert not list(tmp_path.glob('out*'))

    def test_code_inside(self, call, refused, tmp_path):
        weights = torch.nn.Linear(1, 1).state_dict()
        torch.save(dict(state_dict=weights, extra=_Code(tmp_path / 'made')), 'code.pth')
        line = refused('checkpoint.py', 'strip', 'code.pth', 'out.pth')
        assert 'os.makedirs' in line and '--trust-checkpoint' in line and '[untrusted-checkpoint]' in line
        assert not (tmp_path / 'made').exists()
        call('checkpoint.py', 'strip', 'code.pth', 'out.pth', '--trust-checkpoint')
        assert (tmp_path / 'made').exists()
        # The published file contains no such object.
        stripped, = tmp_path.glob('out-*.pth')
        assert set(torch.load(stripped, weights_only=True)) == {'meta', 'state_dict'}
