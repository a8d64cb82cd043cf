"""A command ends with one line if the user can fix the error, else with a traceback."""

import errno

import cv2
import numpy as np
import pytest
from deqdet import UsageError
from deqdet.launching.command_line import run
from mmcv.transforms import LoadImageFromFile
from torch.utils.data import DataLoader, Dataset


def test_usage_errors_are_one_line(capsys):
    def tool():
        raise UsageError('this is\n  wrong', 'bad-argument')

    with pytest.raises(SystemExit) as caught:
        run(tool)
    assert caught.value.code == 2
    assert capsys.readouterr().err == 'error: this is wrong [bad-argument]\n'


def test_names_of_others_give_no_commands_to_the_terminal(capsys):
    def tool():
        raise UsageError('no class \x1b[2J\ud800 \u202egnp.0')

    with pytest.raises(SystemExit):
        run(tool)
    assert capsys.readouterr().err == 'error: no class \\x1b[2J\\ud800 \\u202egnp.0\n'


class Unreadable(Dataset):
    """Data that cannot be loaded."""

    def __len__(self):
        return 1

    def __getitem__(self, number):
        raise UsageError('7.jpg is\ntruncated', 'bad-image')


def test_usage_errors_of_a_data_loader_are_one_line_with_the_code(capsys):
    with pytest.raises(SystemExit):
        run(lambda: next(iter(DataLoader(Unreadable(), num_workers=1))))
    assert capsys.readouterr().err == 'error: 7.jpg is truncated [bad-image]\n'


def test_a_truncated_image_is_one_line(tmp_path, capsys):
    """mmdet's own loader in a worker, on a truncated file."""
    path = tmp_path / '7.jpg'
    path.write_bytes(cv2.imencode('.jpg', np.zeros((64, 64, 3), np.uint8))[1].tobytes()[:90])
    loader = LoadImageFromFile()

    class Truncated(Unreadable):

        def __getitem__(self, number):
            return loader(dict(img_path=str(path)))

    with pytest.raises(SystemExit):
        run(lambda: next(iter(DataLoader(Truncated(), num_workers=1))))
    line = capsys.readouterr().err
    assert line.startswith(f'error: image {path} cannot be read') and line.count('\n') == 1


def test_a_full_disk_is_one_line(capsys):
    def tool():
        raise OSError(errno.ENOSPC, 'No space left on device', '/runs/epoch_3.pth')

    with pytest.raises(SystemExit):
        run(tool)
    line = capsys.readouterr().err
    assert line.startswith('error: /runs/epoch_3.pth ') and '(No space left on device)' in line
    assert line.endswith(' [output-failed]\n') and line.count('\n') == 1 and '--resume' in line


def test_a_missing_file_has_a_code(capsys):
    with pytest.raises(SystemExit):
        run(lambda: open('gone.json'))
    line = capsys.readouterr().err
    assert "'gone.json'" in line and line.endswith(' [missing-file]\n')


def test_other_errors_of_the_system_keep_their_traceback():
    def tool():
        raise OSError(errno.EIO, 'Input/output error')

    with pytest.raises(OSError, match='Input'):
        run(tool)


def test_other_errors_keep_their_traceback():
    def tool():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(tool)
