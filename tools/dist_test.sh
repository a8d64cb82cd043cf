#!/usr/bin/env bash
# Test with several workers: one per GPU, or on the CPUs where there is no GPU.
set -euo pipefail

if [ "$#" -lt 3 ]; then
    echo "usage: bash $0 CONFIG CHECKPOINT GPUS [options of tools/test.py]" >&2
    echo "       environment: NNODES NODE_RANK MASTER_ADDR PORT CUDA_VISIBLE_DEVICES PYTHON" >&2
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
# Files in the folders of the script and of the user do not hide installed packages of their names.
PYTHONSAFEPATH=1 exec "${PYTHON:-python}" \
    "$torchrun" "$gpus" \
    "$root/tools/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
