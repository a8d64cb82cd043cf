"""Files that run code if they are read with trust. The code makes a folder, so tests can see that it ran."""

import io
import json
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from functools import partial
from pathlib import Path

import numpy as np
import torch

WEIGHTS = OrderedDict(weight=torch.ones(2, 2))


class System:
    """``os.system``, as in most such files."""

    def __init__(self, made: Path) -> None:
        self.made = str(made)

    def __reduce__(self):
        return os.system, (f'mkdir {self.made}', )


class Evaluated(System):
    """``eval``, with the call in a string."""

    def __reduce__(self):
        return eval, (f'__import__("os").mkdir({self.made!r})', )


class Executed(System):
    """``exec``."""

    def __reduce__(self):
        return exec, (f'import os; os.mkdir({self.made!r})', )


class State(System):
    """Code in the state of an object of an allowed class."""

    def __reduce__(self):
        from mmengine.logging import HistoryBuffer
        return HistoryBuffer, (), dict(_statistics_methods=System(self.made))


def _checkpoint(**more):
    return dict(
        state_dict=WEIGHTS, meta=dict(epoch=1, iter=1, seed=0), optimizer=dict(state={}, param_groups=[]),
        message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}), param_schedulers=[], **more)


def _saved(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def _second_pickle(made, name):
    """A valid zip file with a second pickle, for readers that take the last of two entries of one name."""
    file = io.BytesIO(_saved(_checkpoint()))
    with zipfile.ZipFile(file, 'a') as archive:
        folder = archive.namelist()[0].split('/')[0]
        content = dict(_checkpoint(), extra=System(made))
        archive.writestr(f'{folder}/{name}', pickle.dumps(content, protocol=2))
    return file.getvalue()


def _tar(made):
    """torch's format before 0.1.10."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w') as archive:
        for name in ('sys_info', 'pickle', 'storages', 'tensors'):
            content = pickle.dumps(System(made), protocol=2)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def _objects(made):
    objects = np.empty(1, dtype=object)
    objects[0] = System(made)
    return _saved(_checkpoint(extra=objects))


def _hidden(made, key):
    """Code in a part of the training state."""
    content = _checkpoint()
    if isinstance(content[key], list):
        content[key].append(System(made))
    else:
        content[key]['extra'] = dict(deeper=[System(made)])
    return _saved(content)


#: Content by file name, as a function of the folder that its code makes.
CHECKPOINTS = {
    'system.pth': lambda made: _saved(_checkpoint(extra=System(made))),
    'eval.pth': lambda made: _saved(_checkpoint(extra=Evaluated(made))),
    'exec.pth': lambda made: _saved(_checkpoint(extra=Executed(made))),
    'state.pth': lambda made: _saved(_checkpoint(extra=State(made))),
    'key.pth': lambda made: _saved(_checkpoint(extra=[System(made), WEIGHTS])),
    **{f'{key}.pth': partial(_hidden, key=key) for key in (
        'meta', 'optimizer', 'message_hub', 'param_schedulers', 'state_dict')},
    'legacy.pth': lambda made: _saved(_checkpoint(extra=System(made)), _use_new_zipfile_serialization=False),
    'raw.pth': lambda made: pickle.dumps(dict(_checkpoint(), extra=System(made))),
    'protocol5.pth': lambda made: _saved(_checkpoint(extra=System(made)), pickle_protocol=5),
    'tar.pth': _tar,
    'objects.pth': _objects,
    'second.pth': lambda made: _second_pickle(made, 'data.pkl'),
    'constants.pth': lambda made: _second_pickle(made, 'constants.pkl'),
    'pickle.safetensors': lambda made: pickle.dumps(System(made)),
    'zip.safetensors': lambda made: _saved(_checkpoint(extra=System(made))),
}


def _safetensors(header, data=b'', *, length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(header) if length is None else length).to_bytes(8, 'little') + header + data


def _tensor(**changes):
    return dict(dict(dtype='F32', shape=[2], data_offsets=[0, 8]), **changes)


#: Safetensors files with wrong headers, by error.
LYING = dict(
    long=_safetensors({}, length=2**63 - 1),
    beyond=_safetensors(dict(weight=_tensor()), bytes(8), length=10**6),
    offsets=_safetensors(dict(weight=_tensor(data_offsets=[0, 10**9])), bytes(8)),
    backwards=_safetensors(dict(weight=_tensor(data_offsets=[8, 0])), bytes(8)),
    huge=_safetensors(dict(weight=_tensor(shape=[2**40, 2**40])), bytes(8)),
    overlapping=_safetensors(dict(a=_tensor(), b=_tensor(data_offsets=[4, 12])), bytes(12)),
    dtype=_safetensors(dict(weight=_tensor(dtype='OBJECT')), bytes(8)),
    no_json=_safetensors(b'{"weight": ', bytes(8)),
    a_list=_safetensors([1, 2], bytes(8)),
    empty=b'',
    meta_no_json=_safetensors(dict(weight=_tensor(), __metadata__=dict(epoch='__import__("os")')), bytes(8)),
    meta_shape=_safetensors(dict(weight=_tensor(), __metadata__=dict(dataset_meta='[1, 2]')), bytes(8)),
    meta_classes=_safetensors(
        dict(weight=_tensor(), __metadata__=dict(dataset_meta='{"classes": 3}')), bytes(8)),
    meta_palette=_safetensors(
        dict(weight=_tensor(), __metadata__=dict(dataset_meta='{"palette": [1, 2]}')), bytes(8)),
)
