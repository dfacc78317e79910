#!/usr/bin/env bash
# Train on several processes of one or more machines:
#   bash tools/dist_train.sh CONFIG PROCESSES_PER_MACHINE [arguments of train.py]
# On several machines set NNODES, NODE_RANK, MASTER_ADDR and PORT on each. Without GPUs gloo is used.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: bash tools/dist_train.sh CONFIG PROCESSES_PER_MACHINE [arguments of train.py]" >&2
    exit 2
fi
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

PYTHONPATH="$HERE/..${PYTHONPATH:+:$PYTHONPATH}" torchrun \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$2" \
    "$HERE/train.py" "$1" --launcher pytorch "${@:3}"
