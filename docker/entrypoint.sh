#!/bin/sh
# Starts `cliper` with the container's folders in place; works the same without a container.
#
#   entrypoint.sh                    cliper serve
#   entrypoint.sh weights fetch fast cliper weights fetch fast
#
# All settings are environment variables (docs/reference/settings.md). MODEL_DIR is where
# weights are kept: a volume, so that they outlive the container.
set -eu

MODEL_DIR="${MODEL_DIR:-/data/models}"
export MODEL_DIR

if ! mkdir -p "$MODEL_DIR" 2>/dev/null || ! [ -w "$MODEL_DIR" ]; then
    echo "cliper: MODEL_DIR $MODEL_DIR is not writable by user $(id -u);" \
        "give it to that user (chown -R $(id -u) on the volume) or choose another folder" >&2
    exit 2
fi

[ "$#" -gt 0 ] || set -- serve

# exec: the service itself gets the stop signal, and can finish what it is writing
exec cliper "$@"
