#!/usr/bin/env bash
# Test on a cluster with Slurm: one worker per GPU; GPUS_PER_NODE=0 for CPUs.
set -euo pipefail

if [ "$#" -lt 4 ]; then
    echo "usage: bash $0 PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]" >&2
    echo "       environment: GPUS GPUS_PER_NODE CPUS_PER_TASK SRUN_ARGS PORT PYTHON" >&2
    exit 2
fi
partition=$1
job=$2
config=$3
checkpoint=$4
shift 4

source "$(dirname "${BASH_SOURCE[0]}")/slurm_run.sh"
start_on_slurm "$partition" "$job" test.py "$config" "$checkpoint" --launcher slurm "$@"
