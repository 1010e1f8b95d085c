#!/usr/bin/env bash
# See that programs exist, given as program:package; install missing packages on Debian as root.
set -euo pipefail

missing=()
for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "Installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" \
        >/dev/null
else
    echo "Please install ${missing[*]} (on Debian: sudo apt-get install ${missing[*]})," \
        "then run this again." >&2
    exit 1
fi
