#!/usr/bin/env bash
# Create the virtual environment $1 where it is missing, install the rest of the arguments with
# pip, and mark it as ready. PYTHON names the interpreter, PIP_ARGS adds options for pip, for
# example an index with CPU-only wheels of torch.
set -euo pipefail

folder=$1
shift

fits() {
    "$1" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
        2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.13}; do
        if fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11, 3.12 or 3.13 with venv is needed; on Debian: apt-get install python3-venv," \
        "or name one: make PYTHON=/path/to/python3.11 …" >&2
    return 1
}

if [[ ! -x $folder/bin/python ]]; then
    python=$(find_python)
    echo "Creating $folder with $($python --version)"
    "$python" -m venv "$folder"
fi
echo "Installing into $folder (minutes the first time)"
# shellcheck disable=SC2086  # several options in one variable are meant
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
    ${PIP_ARGS:-} "$@"
touch "$folder/.ready"
