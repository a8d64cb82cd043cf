# Sourced by dist_*.sh and slurm_*.sh, which start several workers of one tool.
set -euo pipefail
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# needs COUNT WORDS TOOL VARIABLES ["$@"]: exit with the usage of the script unless it has COUNT words.
needs() {
    if [ "$(($# - 4))" -lt "$1" ]; then
        echo "usage: bash $0 $2 [options of tools/$3]" >&2
        echo "       environment: $4 OMP_NUM_THREADS PYTHON" >&2
        exit 2
    fi
}

# start_with_torchrun WORKERS TOOL [words of the tool]
start_with_torchrun() {
    local torchrun=$tools/../projects/deqdet/launching/torchrun.py
    # In an installed package the tools are in its folder .mim.
    [ -f "$torchrun" ] || torchrun=$tools/../../launching/torchrun.py
    # Keeps files in the script's and the user's folders from hiding installed packages of the same name.
    PYTHONSAFEPATH=1 exec "${PYTHON:-python}" "$torchrun" "$1" "$tools/$2" "${@:3}"
}

# start_on_slurm PARTITION JOB_NAME TOOL [words of the tool]
start_on_slurm() {
    local variable
    for variable in GPUS GPUS_PER_NODE CPUS_PER_TASK; do
        if [[ ! "${!variable:-0}" =~ ^[0-9]+$ ]]; then
            echo "error: $variable must be a number, not '${!variable}'" >&2
            exit 2
        fi
    done
    if ! command -v srun > /dev/null; then
        echo "error: srun is missing: run this on a node of a cluster with Slurm, or use tools/dist_*.sh" >&2
        exit 2
    fi
    # With fewer workers than GPUs per node, request only that many.
    local gpus=${GPUS:-8} layout
    local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    if [ "$per_node" -gt 0 ] && [ "$gpus" -gt 0 ]; then
        layout=(--gres="gpu:$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node")
    else
        # On CPUs Slurm chooses the layout of the workers.
        layout=(--ntasks="$((gpus > 0 ? gpus : 1))")
    fi
    # SRUN_ARGS holds several words. Without the kill, workers would wait for a failed one.
    # shellcheck disable=SC2086
    PYTHONSAFEPATH=1 exec srun \
        --partition="$1" --job-name="$2" "${layout[@]}" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
        "${PYTHON:-python}" -u "$tools/$3" "${@:4}"
}
