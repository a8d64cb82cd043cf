#!/usr/bin/env bash
# Train with several workers: one per GPU, or on the CPUs where there is no GPU.
set -euo pipefail

if [ "$#" -lt 2 ]; then
    echo "usage: bash $0 CONFIG GPUS [options of tools/train.py]" >&2
    echo "       environment: NNODES NODE_RANK MASTER_ADDR PORT CUDA_VISIBLE_DEVICES PYTHON" >&2
    exit 2
fi
config=$1
gpus=$2
shift 2

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
torchrun=$root/projects/deqdet/launching/torchrun.py
# In an installed package this root is its folder .mim.
[ -f "$torchrun" ] || torchrun=$root/../launching/torchrun.py
# Files in the folders of the script and of the user do not hide installed packages of their names.
PYTHONSAFEPATH=1 exec "${PYTHON:-python}" \
    "$torchrun" "$gpus" \
    "$root/tools/train.py" "$config" --launcher pytorch "$@"
