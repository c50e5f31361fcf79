#!/usr/bin/env bash
# Everything that only a GPU can show, in under ten minutes.
#
#   benchmarks/gpu.sh pack [FOLDER|TAR]   here, with a network: fills gpu/ with what a bare machine lacks
#   benchmarks/gpu.sh                     there, without one: Linux on x86-64, Python 3.12, torch
#
# The GPU's machine must have torch, torchvision, transformers, scikit-learn, pyarrow, matplotlib and
# typer; gpu/ brings this package and the small ones. FOLDER|TAR are images to time a training on
# (such as CIFAR-10). Results are written to benchmarks/results/, and to $OUT where that is set.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = pack ]; then
    python3 -m pip wheel --quiet --no-deps --wheel-dir gpu/wheels .
    platforms=(manylinux_2_28_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64)
    python3 -m pip download --quiet --dest gpu/wheels --only-binary=:all: \
        --python-version 3.12 --implementation cp "${platforms[@]/#/--platform=}" \
        pydantic tomli-w platformdirs filelock
    if [ -n "${2:-}" ]; then
        mkdir -p gpu/data
        cp -r "$2" gpu/data/
    fi
    exit
fi

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if [ -d gpu/wheels ]; then  # else the environment has all of them
    python3 -m pip install --quiet --no-index --no-deps --no-compile --target "$site" gpu/wheels/*.whl
fi
export PYTHONPATH=$site:$PWD PYTHONUNBUFFERED=1 SORTEDNET_CACHE=$site/cache HF_HUB_OFFLINE=1
data=()
if [ -e gpu/data ]; then
    data=(--data gpu/data/*)
fi
timeout 570 python3 -m benchmarks.speed.gpu_check ${data[@]+"${data[@]}"} "$@" || code=$?
if [ -n "${OUT:-}" ]; then
    cp benchmarks/results/gpu_check*.json "$OUT" || true
fi
exit "${code:-0}"
