# Sourced by slurm_train.sh and slurm_test.sh: start_on_slurm PARTITION JOB_NAME TOOL [words of the tool]

start_on_slurm() {
    local partition=$1 job=$2 tool=$3 variable
    shift 3
    for variable in GPUS GPUS_PER_NODE CPUS_PER_TASK; do
        if [[ ! "${!variable:-0}" =~ ^[0-9]+$ ]]; then
            echo "error: $variable must be a number, not '${!variable}'" >&2
            exit 2
        fi
    done
    if ! command -v srun > /dev/null; then
        echo "error: no srun here: run this on a node of a cluster with Slurm, or use tools/dist_*.sh" >&2
        exit 2
    fi
    # Fewer workers than a node has GPUs need only as many.
    local gpus=${GPUS:-8} layout
    local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    if [ "$per_node" -gt 0 ] && [ "$gpus" -gt 0 ]; then
        layout=(--gres="gpu:$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node")
    else
        # On CPUs, where Slurm lays the workers out.
        layout=(--ntasks="$((gpus > 0 ? gpus : 1))")
    fi
    local root
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    # SRUN_ARGS holds several words. Without the kill, workers would wait for one that has failed.
    # Files in the folders of the script and of the user do not hide installed packages of their names.
    # shellcheck disable=SC2086
    PYTHONSAFEPATH=1 exec srun \
        --partition="$partition" --job-name="$job" "${layout[@]}" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
        "${PYTHON:-python}" -u "$root/tools/$tool" "$@"
}
