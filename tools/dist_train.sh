#!/usr/bin/env bash
# Train with several workers: one per GPU, or on the CPUs where there is no GPU.
source "$(dirname "${BASH_SOURCE[0]}")/workers.sh"
needs 2 'CONFIG GPUS' train.py 'NNODES NODE_RANK MASTER_ADDR PORT CUDA_VISIBLE_DEVICES' "$@"
start_with_torchrun "$2" train.py "$1" --launcher pytorch "${@:3}"
