"""Run Python commands in forked processes with all packages imported, since importing takes seconds."""

import multiprocessing
import os
import runpy
import sys
from multiprocessing import forkserver
from pathlib import Path
from typing import Sequence, Tuple
from unittest import mock

from small_model import ROOT

_READY = multiprocessing.get_context('forkserver')
_READY.set_forkserver_preload(
    ['deqdet', 'deqdet.training.running', 'mmdet.apis', 'mmengine.runner', 'pycocotools.coco'])


def run_python(words: Sequence[str], folder: Path, timeout: float = 900) -> Tuple[int, str]:
    """Run ``python`` with these words: a script, ``-m`` and a module, or ``-c`` and code.

    Returns the exit status, and the combined standard output and errors.
    """
    with mock.patch.dict(os.environ, PYTHONPATH=str(ROOT / 'projects'), CUDA_VISIBLE_DEVICES='-1',
                         OMP_NUM_THREADS='1'):
        forkserver.ensure_running()
        output = folder / 'output.txt'
        process = _READY.Process(target=_run, args=(list(words), folder, output))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.terminate()
            process.join()
    assert process.exitcode is not None
    return process.exitcode, output.read_text(errors='replace')


def _run(words, folder, output):
    """Run the words in the forked process."""
    with open(output, 'wb') as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    os.chdir(folder)
    first, sys.argv = words[0], words
    if first == '-c':
        sys.argv = ['-c', *words[2:]]
        exec(compile(words[1], '<command>', 'exec'), {'__name__': '__main__'})
    elif first == '-m':
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name='__main__', alter_sys=True)
    else:
        sys.path.insert(0, str(Path(first).parent))
        runpy.run_path(first, run_name='__main__')
