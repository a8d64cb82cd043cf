"""Translates the variables of srun and mpirun into those of torchrun."""

import re
from typing import Dict, Mapping

from ..errors import UsageError

# Variables of the launchers, by torchrun's names.
_VARIABLES = dict(
    slurm=dict(RANK='SLURM_PROCID', WORLD_SIZE='SLURM_NTASKS', LOCAL_RANK='SLURM_LOCALID'),
    mpi=dict(RANK='OMPI_COMM_WORLD_RANK', WORLD_SIZE='OMPI_COMM_WORLD_SIZE',
             LOCAL_RANK='OMPI_COMM_WORLD_LOCAL_RANK', LOCAL_WORLD_SIZE='OMPI_COMM_WORLD_LOCAL_SIZE'))
_DEFAULT_PORT = 29500


def worker_variables(launcher: str, environment: Mapping[str, str]) -> Dict[str, str]:
    """The variables that torchrun would set for this worker.

    Args:
        launcher (str): ``slurm`` or ``mpi``; for others the result is empty.
        environment (Mapping[str, str]): Environment variables of the task. MASTER_ADDR and MASTER_PORT (or
            PORT) are kept if the user has set them.

    Returns:
        dict[str, str]: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT.

    Raises:
        UsageError: If this process is not a task of srun or mpirun.
    """
    if launcher not in _VARIABLES:
        return {}
    missing = [name for name in _VARIABLES[launcher].values() if name not in environment]
    more = _of_slurm(environment, missing) if launcher == 'slurm' else _of_mpi(environment, missing)
    variables = {ours: environment[theirs] for ours, theirs in _VARIABLES[launcher].items()}
    chosen = dict(MASTER_ADDR=environment.get('MASTER_ADDR'),
                  MASTER_PORT=environment.get('MASTER_PORT') or environment.get('PORT'))
    return {**variables, **more, **{name: value for name, value in chosen.items() if value}}


def _of_slurm(environment, missing) -> Dict[str, str]:
    # A step may be smaller than its job; then it has its own variables.
    hosts, tasks = (environment.get(f'SLURM_STEP_{name}') or environment.get(f'SLURM_{name}')
                    for name in ('NODELIST', 'TASKS_PER_NODE'))
    missing += [] if hosts else ['SLURM_NODELIST']
    # The sbatch script itself has a task's rank in its environment, but it is no task that srun started. As a
    # worker it would wait for the other tasks.
    if environment.get('ENVIRONMENT') == 'BATCH' and 'SLURM_STEP_ID' not in environment:
        missing.append('SLURM_STEP_ID')
    if missing:
        raise UsageError(
            f'--launcher slurm is for tasks of srun, but the environment lacks {", ".join(missing)}: use '
            'tools/slurm_train.sh or tools/slurm_test.sh, or put srun in front of the command', 'launcher')
    return dict(
        LOCAL_WORLD_SIZE=_tasks_on_node(tasks or environment['SLURM_NTASKS'],
                                        int(environment.get('SLURM_NODEID', 0))),
        MASTER_ADDR=_first_host(hosts), MASTER_PORT=str(_slurm_port(environment)))


def _of_mpi(environment, missing) -> Dict[str, str]:
    if missing:
        raise UsageError(
            f'--launcher mpi is for processes of Open MPI, but the environment lacks {", ".join(missing)}: '
            'put mpirun in front of the command', 'launcher')
    several = environment['OMPI_COMM_WORLD_SIZE'] != environment['OMPI_COMM_WORLD_LOCAL_SIZE']
    if several and not environment.get('MASTER_ADDR'):
        raise UsageError(
            '--launcher mpi on several nodes needs the address of the first node: use mpirun -x '
            'MASTER_ADDR=HOST ...', 'missing-argument')
    return dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(_DEFAULT_PORT))


def _first_host(hosts):
    """``gpu01`` for ``gpu[01-03,7],login``, like the first line of ``scontrol show hostnames``."""
    first = re.findall(r'(?:[^,\[]|\[[^\]]*\])*', hosts)[0]
    return re.sub(r'\[([^\],-]+)[^\]]*\]', r'\1', first)


def _tasks_on_node(counts, node):
    """The entry of a node in Slurm's ``2(x3),1``: two tasks on each of three nodes, one on a fourth."""
    expanded = []
    for part in counts.split(','):
        count, _, repeat = part.rstrip(')').partition('(x')
        expanded += [count] * int(repeat or 1)
    return expanded[node]


def _slurm_port(environment):
    """A port that is the same for all tasks, and probably not used by other jobs on the node."""
    job, step = (environment.get(name, '') for name in ('SLURM_JOB_ID', 'SLURM_STEP_ID'))
    if not job.isdigit():
        return _DEFAULT_PORT
    # Below the ports that Linux assigns by itself, above those of usual services.
    return 15000 + (int(job) + 101 * int(step or 0)) % 15000
