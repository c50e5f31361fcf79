#!/usr/bin/env bash
# From nothing to a standalone model: the five commands that `make demo` runs.
set -euo pipefail

# The demo's network is too small for a second thread to help, and threads that wait for each
# other crawl on a busy machine.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

folder=${1:-demo}
if [ -e "$folder" ]; then
    echo "demo: $folder exists; remove it, or run make clean, for a new demo" >&2
    exit 2
fi
mkdir -p "$folder"
cd "$folder"
say() { printf '\n$%s\n' "$(printf ' %q' "$@")" >&2; "$@"; }

say sortednet train --preset digits-resnet
say sortednet eval --all > scores.txt
tail -n 1 scores.txt
say sortednet frontier --max-params 50k --plot frontier.png
artifact=$(say sortednet extract --max-params 50k)
echo "$artifact"
say sortednet eval "$artifact"
load="from sortednet_cli import load_artifact; print(load_artifact('$artifact').module().head)"
printf '\n$ python -c "%s"\n' "$load" >&2
python -c "$load"
printf '\nThe picture is %s/frontier.png; the artifact is %s/%s.\n' "$folder" "$folder" "$artifact"
