"""What settings of a preset do to each of its sub-models: a table of short trainings.

    python -m benchmarks.accuracy.variants gsm8k-smollm2 --data gsm8k-2000 \\
        --set train.accumulate=1 --variant train.lr=2e-4 --variant train.lr=5e-4 --out variants.json

Each variant is a list of settings beside `--set`. Writes the scores on the validation and test
parts into `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.accuracy.trainings import Result, Training, add_options, trainer_of
from benchmarks.harness import RESULTS, tell, write
from sortednet_cli.spec import presets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=presets.names())
    parser.add_argument("--set", action="append", default=[], help="for all variants")
    parser.add_argument(
        "--variant", action="append", required=True, metavar="'A.B=V ...'", help="settings"
    )
    parser.add_argument("--out", help="name of the result; default: variants_PRESET.json")
    add_options(parser)
    options = parser.parse_args()
    trainer = trainer_of(options)
    trainings = [
        Training(f"{options.preset}-variant", options.preset, (*options.set, *variant.split()))
        for variant in options.variant
    ]
    results = trainer.results(trainings)
    result = {
        "preset": options.preset,
        "variants": [
            {"variant": variant, **own}
            for variant, own in zip(options.variant, results, strict=True)
        ],
    }
    out = RESULTS / (options.out or f"variants_{options.preset.replace('-', '_')}.json")
    write(out.stem, result, out)
    print(table(result))


def table(result: Result) -> str:
    """Markdown: a row for each variant, and the test score of each sub-model."""
    names = list(dict.fromkeys(row["name"] for own in result["variants"] for row in own["rows"]))
    is_text = "perplexity" in result["variants"][0]["rows"][0]["metrics"]["test"]
    lines = [
        f"| settings: test {'perplexity' if is_text else 'accuracy'} | {' | '.join(names)} |",
        f"| --- |{' ---: |' * len(names)}",
    ]
    for own in result["variants"]:
        rows = {row["name"]: row for row in own["rows"]}
        cells = [told(rows[name]) if name in rows else "" for name in names]
        # `KEY=` takes a key of the preset away.
        settings = ", ".join(f"`{one}`" for one in own["variant"].split() if one[-1] != "=")
        lines.append(f"| {settings} | {' | '.join(cells)} |")
    return "\n".join(lines)


def told(row: dict[str, Any]) -> str:
    metrics = row["metrics"]["test"]
    if "perplexity" in metrics:
        return f"{metrics['perplexity']:.3g}"
    return f"{100 * metrics['accuracy']:.1f}"


if __name__ == "__main__":
    tell(main)
