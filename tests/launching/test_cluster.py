"""Tasks of srun and mpirun become workers. The tests need neither program."""

import os
from multiprocessing import get_context

import pytest
import torch
from deqdet.launching import workers as launch
from deqdet.launching.cluster import worker_variables
from mmengine.config import Config
from refusals import refused
from torch import distributed


def slurm(**changes):
    """Variables of srun for the fourth of five tasks: two on a first node, three on a second."""
    variables = dict(
        SLURM_JOB_ID='20041', SLURM_STEP_ID='3', SLURM_PROCID='3', SLURM_LOCALID='1',
        SLURM_NODEID='1', SLURM_NTASKS='5', SLURM_NODELIST='gpu[07,09-12]',
        SLURM_TASKS_PER_NODE='4(x5)', SLURM_STEP_NODELIST='gpu[09-10]',
        SLURM_STEP_TASKS_PER_NODE='2,3')
    variables.update(changes)
    return {name: value for name, value in variables.items() if value is not None}


def mpi(**changes):
    return dict(dict(OMPI_COMM_WORLD_RANK='3', OMPI_COMM_WORLD_SIZE='4',
                     OMPI_COMM_WORLD_LOCAL_RANK='1', OMPI_COMM_WORLD_LOCAL_SIZE='2'), **changes)


class TestSlurm:

    def test_a_step_on_two_nodes(self):
        variables = worker_variables('slurm', slurm())
        assert 1024 < int(variables.pop('MASTER_PORT')) < 32768
        assert variables == dict(RANK='3', WORLD_SIZE='5', LOCAL_RANK='1', LOCAL_WORLD_SIZE='3',
                                 MASTER_ADDR='gpu09')

    def test_without_the_variables_of_the_step(self):
        variables = worker_variables('slurm', slurm(
            SLURM_STEP_NODELIST=None, SLURM_STEP_TASKS_PER_NODE=None))
        assert (variables['MASTER_ADDR'], variables['LOCAL_WORLD_SIZE']) == ('gpu07', '4')

    @pytest.mark.parametrize('hosts, first', [
        ('vm', 'vm'), ('a-1.lan,b', 'a-1.lan'), ('gpu[3]', 'gpu3'), ('gpu[003-10],login', 'gpu003'),
        ('r[1-2]n[05,7-9]', 'r1n05'), ('n[2,4]-ib,m', 'n2-ib')])
    def test_first_host(self, hosts, first):
        assert worker_variables('slurm', slurm(SLURM_STEP_NODELIST=hosts))['MASTER_ADDR'] == first

    @pytest.mark.parametrize('counts, node, tasks', [
        ('8', 0, '8'), ('2(x3),1', 2, '2'), ('2(x3),1', 3, '1'), ('1,4(x2)', 1, '4')])
    def test_tasks_on_this_node(self, counts, node, tasks):
        variables = worker_variables('slurm', slurm(
            SLURM_STEP_TASKS_PER_NODE=counts, SLURM_NODEID=str(node)))
        assert variables['LOCAL_WORLD_SIZE'] == tasks

    def test_jobs_and_steps_keep_apart(self):
        ports = {worker_variables('slurm', slurm(SLURM_JOB_ID=job, SLURM_STEP_ID=step))['MASTER_PORT']
                 for job in ('1', '2', '70003') for step in ('0', '1')}
        assert len(ports) == 6

    def test_the_users_word(self):
        variables = worker_variables('slurm', slurm(MASTER_ADDR='10.0.0.1', PORT='1234'))
        assert (variables['MASTER_ADDR'], variables['MASTER_PORT']) == ('10.0.0.1', '1234')
        assert worker_variables('slurm', slurm(MASTER_PORT='1'))['MASTER_PORT'] == '1'

    def test_not_started_by_srun(self):
        with refused('launcher', 'SLURM_PROCID', 'tools/slurm_train.sh', 'srun'):
            worker_variables('slurm', {})

    def test_script_of_sbatch(self):
        """It has a rank variable, but is not a task: as a worker it would wait for others forever."""
        batch = slurm(ENVIRONMENT='BATCH', SLURM_PROCID='0')
        worker_variables('slurm', batch)
        del batch['SLURM_STEP_ID']
        with refused('launcher', 'SLURM_STEP_ID', 'srun'):
            worker_variables('slurm', batch)


class TestMpi:

    def test_one_node(self):
        assert worker_variables('mpi', mpi(OMPI_COMM_WORLD_LOCAL_SIZE='4')) == dict(
            RANK='3', WORLD_SIZE='4', LOCAL_RANK='1', LOCAL_WORLD_SIZE='4', MASTER_ADDR='127.0.0.1',
            MASTER_PORT='29500')

    def test_several_nodes(self):
        with refused('missing-argument', 'MASTER_ADDR=HOST'):
            worker_variables('mpi', mpi())
        variables = worker_variables('mpi', mpi(MASTER_ADDR='a', MASTER_PORT='7'))
        assert (variables['MASTER_ADDR'], variables['MASTER_PORT']) == ('a', '7')

    def test_not_started_by_mpirun(self):
        with refused('launcher', 'OMPI_COMM_WORLD_RANK', 'mpirun'):
            worker_variables('mpi', {})


def test_other_launchers_need_nothing():
    assert worker_variables('pytorch', slurm()) == worker_variables('none', {}) == {}


def task(launcher, variables, answers):
    """One task: joins the group and adds up all ranks plus one."""
    os.environ.update(variables)
    launch.has_accelerator = lambda: False
    cfg = Config(dict(launcher=launcher))
    with launch.running_workers(cfg):
        total = torch.tensor([1.0 + distributed.get_rank()])
        distributed.all_reduce(total)
        answers.put((distributed.get_backend(), distributed.get_world_size(), total.item(),
                     cfg.model_wrapper_cfg.device_ids, torch.get_num_threads()))


@pytest.mark.parametrize('launcher', ['slurm', 'mpi'])
def test_processes_form_a_group(launcher, free_port, monkeypatch):
    monkeypatch.setenv('PORT', str(free_port))
    monkeypatch.setenv('OMP_NUM_THREADS', '')
    fork = get_context('fork')  # keeps the slow imports
    answers = fork.SimpleQueue()
    tasks = []
    for rank in ('0', '1'):
        if launcher == 'slurm':
            variables = slurm(SLURM_PROCID=rank, SLURM_LOCALID=rank, SLURM_NODEID='0',
                              SLURM_NTASKS='2', SLURM_STEP_NODELIST='localhost',
                              SLURM_STEP_TASKS_PER_NODE='2', SLURM_CPUS_PER_TASK='1')
        else:
            variables = mpi(OMPI_COMM_WORLD_RANK=rank, OMPI_COMM_WORLD_LOCAL_RANK=rank,
                            OMPI_COMM_WORLD_SIZE='2')
        tasks.append(fork.Process(target=task, args=(launcher, variables, answers)))
        tasks[-1].start()
    for process in tasks:
        process.join(60)
    assert [process.exitcode for process in tasks] == [0, 0]
    for _ in tasks:
        backend, size, total, devices, threads = answers.get()
        assert (backend, size, total, devices) == ('gloo', 2, 3.0, None)
        assert threads == 1 or launcher == 'mpi'
