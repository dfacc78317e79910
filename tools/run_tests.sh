#!/usr/bin/env bash
# Sets everything up, lints, and runs the tests; arguments go to pytest.
set -euo pipefail
source "$(dirname "$0")/setup_env.sh"

# One thread per process: the tests' tensors are too small for more, and some start processes.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
ruff check .
python -m pytest "$@"
