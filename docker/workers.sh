#!/usr/bin/env bash
# This machine's workers for a dask scheduler: one per GPU, each seeing that one alone; without a GPU,
# WORKERS of them (1 if unset). The GPUs are those of CUDA_VISIBLE_DEVICES where it is set, else all.
#   docker/workers.sh tcp://10.0.0.1:8786
set -euo pipefail
address=${1:?"usage: workers.sh ADDRESS, such as tcp://10.0.0.1:8786"}

gpus=${CUDA_VISIBLE_DEVICES-$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null | paste -sd, || true)}
IFS=, read -ra devices <<<"$gpus"
number=${#devices[@]}
((number)) || number=${WORKERS:-1}

# Threads for arithmetic: each worker's share of the cores.
share=$(($(nproc) / number))
((share)) || share=1
for name in OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS OPENCV_FOR_THREADS_NUM; do
    export "$name=${!name:-$share}"
done

# Each looks for its scheduler for two minutes; told to end, it commits what it has in hand.
started=()
for ((i = 0; i < number; i++)); do
    if ((${#devices[@]})); then export CUDA_VISIBLE_DEVICES=${devices[i]}; fi
    mer-store worker "$address" --patience 120 &
    started+=($!)
done
leave() {
    trap '' INT TERM
    kill -TERM "${started[@]}" 2>/dev/null || true
    wait
}
trap leave EXIT
trap 'exit 130' INT TERM
wait -n
