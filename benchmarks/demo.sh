#!/usr/bin/env bash
# From nothing to a standalone model: the five commands that `make demo` runs.
set -euo pipefail

folder=${1:-demo}
if [ -e "$folder" ]; then
    echo "demo: $folder exists; remove it to run the demo again" >&2
    exit 2
fi
mkdir -p "$folder"
cd "$folder"
say() { printf '\n\033[1m$ %s\033[0m\n' "$*" >&2; "$@"; }

say sortednet train --preset digits-resnet
say sortednet eval --all --json > eval.json
say sortednet frontier --max-params 150k --plot frontier.png
artifact=$(say sortednet extract --max-params 150k)
echo "$artifact"
say sortednet eval "$artifact"
say python -c "
from sortednet_cli import load_artifact
model = load_artifact('$artifact').module()
print(sum(p.numel() for p in model.parameters()), 'parameters, loaded back from $artifact')
"
printf '\nThe picture is %s; the artifact is %s.\n' "$folder/frontier.png" "$folder/$artifact"
