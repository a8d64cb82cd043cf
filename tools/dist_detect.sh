#!/usr/bin/env bash
# Detect with several workers: one per GPU, or on the CPUs where there is no GPU.
set -euo pipefail

if [ "$#" -lt 4 ]; then
    echo "usage: bash $0 CONFIG CHECKPOINT GPUS INPUT ... [options of tools/detect.py]" >&2
    echo "       environment: NNODES NODE_RANK MASTER_ADDR PORT CUDA_VISIBLE_DEVICES OMP_NUM_THREADS PYTHON" >&2
    exit 2
fi
config=$1
checkpoint=$2
gpus=$3
shift 3

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
torchrun=$root/projects/deqdet/launching/torchrun.py
# In an installed package this root is its folder .mim.
[ -f "$torchrun" ] || torchrun=$root/../launching/torchrun.py
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python}" \
    "$torchrun" "$gpus" \
    "$root/tools/detect.py" "$config" "$checkpoint" --launcher pytorch "$@"
