#!/usr/bin/env bash
# Train on a cluster with Slurm: one worker per GPU; GPUS_PER_NODE=0 for CPUs.
source "$(dirname "${BASH_SOURCE[0]}")/workers.sh"
needs 4 'PARTITION JOB_NAME CONFIG WORK_DIR' train.py 'GPUS GPUS_PER_NODE CPUS_PER_TASK SRUN_ARGS PORT' "$@"
start_on_slurm "$1" "$2" train.py "$3" --work-dir "$4" --launcher slurm "${@:5}"
