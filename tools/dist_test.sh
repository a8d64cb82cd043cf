#!/usr/bin/env bash
# Test with several workers: one per GPU, or on the CPUs where there is no GPU.
source "$(dirname "${BASH_SOURCE[0]}")/workers.sh"
needs 3 'CONFIG CHECKPOINT GPUS' test.py 'NNODES NODE_RANK MASTER_ADDR PORT CUDA_VISIBLE_DEVICES' "$@"
start_with_torchrun "$3" test.py "$1" "$2" --launcher pytorch "${@:4}"
