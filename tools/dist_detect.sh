#!/usr/bin/env bash
# Detect with several workers: one per GPU, or on the CPUs where there is no GPU.
source "$(dirname "${BASH_SOURCE[0]}")/workers.sh"
needs 4 'CONFIG CHECKPOINT GPUS INPUT ...' detect.py 'NNODES NODE_RANK MASTER_ADDR PORT CUDA_VISIBLE_DEVICES' "$@"
start_with_torchrun "$3" detect.py "$1" "$2" --launcher pytorch "${@:4}"
