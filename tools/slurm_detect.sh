#!/usr/bin/env bash
# Detect on a cluster with Slurm: one worker per GPU; GPUS_PER_NODE=0 for CPUs.
set -euo pipefail

if [ "$#" -lt 5 ]; then
    echo "usage: bash $0 PARTITION JOB_NAME CONFIG CHECKPOINT INPUT ... [options of tools/detect.py]" >&2
    echo "       environment: GPUS GPUS_PER_NODE CPUS_PER_TASK SRUN_ARGS PORT OMP_NUM_THREADS PYTHON" >&2
    exit 2
fi
partition=$1
job=$2
config=$3
checkpoint=$4
shift 4

source "$(dirname "${BASH_SOURCE[0]}")/slurm_run.sh"
start_on_slurm "$partition" "$job" detect.py "$config" "$checkpoint" --launcher slurm "$@"
