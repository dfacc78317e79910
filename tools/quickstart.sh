#!/usr/bin/env bash
# Sets everything up, trains the Shapes default, evaluates it and writes pictures of predictions.
set -euo pipefail
source "$(dirname "$0")/setup_env.sh"

python tools/quickstart.py "$@"
