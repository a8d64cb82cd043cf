"""torchrun for the tools; tools/dist_*.sh run it as a script: ``torchrun.py WORKERS SCRIPT ...``.

It is ``python -m torch.distributed.run`` with three changes. It reads the environment variables that users of
mmdet know (NNODES, NODE_RANK, MASTER_ADDR, PORT). It takes a free port if there is only one machine. It ends
without a traceback if a worker has already printed a one-line error, after SIGTERM, if a worker was killed,
or if detection has found broken files. It does not change CUDA_VISIBLE_DEVICES.
"""

import logging
import os
import signal
import socket
import sys
from typing import List, Mapping

if __name__ == '__main__' and not getattr(sys.flags, 'safe_path', False):
    # Otherwise the script's folder comes first, and the modules in it have common names.
    sys.path.pop(0)

try:
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main
except ModuleNotFoundError as error:
    sys.exit(f'error: {error} in {sys.executable}: activate the environment of this project, or set PYTHON '
             'to its interpreter')

_USAGE_ERROR = 2

# Exit status of a tool that has finished and has reported files that it could not read.
_SOME_BROKEN = 3

# After SIGTERM, workers save a checkpoint after their iteration. torchrun would kill them after 30 s.
_SECONDS_TO_SAVE = '300'

# Exit status that a shell reports for a process that a signal ended: this plus the signal.
_SIGNALLED = 128
_TERMINATED = _SIGNALLED + signal.SIGTERM


def torchrun_options(*, workers: str, environment: Mapping[str, str]) -> List[str]:
    """Options of torchrun.

    Args:
        workers (str): Number of workers on this machine, or torchrun's ``gpu``, ``cpu``, ``auto``.
        environment (Mapping[str, str]): Environment variables.

    Returns:
        list[str]: The options, without the script.
    """
    nodes = environment.get('NNODES') or '1'
    # Several machines must agree on a port and cannot ask each other.
    port = environment.get('PORT') or (_free_port() if nodes == '1' else '29500')
    return [
        f'--nnodes={nodes}',
        f'--node_rank={environment.get("NODE_RANK") or 0}',
        f'--master_addr={environment.get("MASTER_ADDR") or "127.0.0.1"}',
        f'--master_port={port}',
        f'--nproc_per_node={workers}',
    ]


def _free_port():
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


def _run(workers, *command):
    if not (workers in ('gpu', 'cpu', 'auto') or workers.isdigit() and int(workers) > 0):
        print(f'error: the number of GPUs (workers) must be 1 or more, not {workers!r}',
              file=sys.stderr)
        sys.exit(_USAGE_ERROR)
    # The workers set the announced thread count again where it matters, and the summary at the end shows what
    # torchrun logs about a failed worker.
    logging.getLogger('torch.distributed.run').setLevel(logging.ERROR)
    logging.getLogger('torch.distributed.elastic.multiprocessing.api').setLevel(logging.CRITICAL)
    # Workers report themselves what they do after SIGTERM.
    logging.getLogger('torch.distributed.elastic.agent.server.api').setLevel(logging.ERROR)
    os.environ.setdefault('TORCH_ELASTIC_SHUTDOWN_TIMEOUT', _SECONDS_TO_SAVE)
    try:
        main(torchrun_options(workers=workers, environment=os.environ) + list(command))
    except SignalException as error:
        sys.exit(_SIGNALLED + error.sigval)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        status = failure.exitcode
        # Only one worker got the signal: it ended as the tools do, or was ended before it could.
        if status in (-signal.SIGTERM, _TERMINATED):
            sys.exit(_TERMINATED)
        if status == -signal.SIGKILL:
            print(f'error: worker {rank + 1} was killed (SIGKILL), probably because memory ran out: use '
                  'fewer workers, or smaller batches', file=sys.stderr, flush=True)
            sys.exit(_SIGNALLED + signal.SIGKILL)
        if status not in (_USAGE_ERROR, _SOME_BROKEN):
            raise
        sys.exit(status)


if __name__ == '__main__':
    _run(*sys.argv[1:])
