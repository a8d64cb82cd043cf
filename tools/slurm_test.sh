#!/usr/bin/env bash
# Test on a cluster with Slurm: one worker per GPU; GPUS_PER_NODE=0 for CPUs.
source "$(dirname "${BASH_SOURCE[0]}")/workers.sh"
needs 4 'PARTITION JOB_NAME CONFIG CHECKPOINT' test.py 'GPUS GPUS_PER_NODE CPUS_PER_TASK SRUN_ARGS PORT' "$@"
start_on_slurm "$1" "$2" test.py "$3" "$4" --launcher slurm "${@:5}"
