"""How much of a pretrained encoder its narrow sub-models still do before any training.

    python -m benchmarks.accuracy.kept_function sst2-minilm --data sst2

For each order of units and each way to be narrower (everything by `width`, or feed-forward layers
alone by `ffn`): the rank correlation, over all pairs of sentences, between the similarities that
a sub-model gives them and those that the whole encoder does. A sentence is the mean of its last
hidden states. 1 means that the sub-model orders pairs of sentences as the encoder does.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer

from benchmarks.accuracy.reordering import ORDERS
from benchmarks.accuracy.trainings import Training, add_options, trainer_of
from benchmarks.harness import RESULTS, tell, write
from sortednet_cli import load_run
from sortednet_cli.spec import presets

SIZES = (1.0, 0.75, 0.5, 0.25)
UNTRAINED = ("train.updates=1", "train.lr=1e-12", "train.warmup=0", "train.rule=sandwich")
"""A training that changes nothing."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=presets.names())
    parser.add_argument("--sentences", type=int, default=300, help="the first of dev.tsv")
    add_options(parser)
    options = parser.parse_args()
    if options.data is None:
        parser.error("--data is missing: the folder with dev.tsv")
    sentences = read_sentences(options.data / "dev.tsv", options.sentences)
    trainer = trainer_of(options)
    rows = []
    for axis, other in (("width", ()), ("ffn", ("space.width=[1.0]",))):
        spaces = (f"space.{axis}={list(reversed(SIZES))}", *other, "space.depth=[6]")
        for order, value in ORDERS.items():
            settings = (*UNTRAINED, *spaces, f"model.reorder={value}")
            training = Training(
                f"{options.preset}-{axis}-{value}-untrained", options.preset, settings
            )
            trainer.results([training])
            kept = correlations(trainer.folder(training), axis, sentences)
            rows.append({"axis": axis, "order": order, "kept": kept})
    result = {"preset": options.preset, "sentences": len(sentences), "rows": rows}
    out = RESULTS / f"kept_function_{options.preset.replace('-', '_')}.json"
    write(out.stem, result, out)
    print(table(result))


def read_sentences(path: Path, count: int) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row["sentence"] for row in rows[:count]]


def correlations(run: Path, axis: str, sentences: list[str]) -> list[float]:
    """The rank correlation of each size with the whole."""
    loaded = load_run(run)
    tokenize = AutoTokenizer.from_pretrained(loaded.tokenizer)
    batch = tokenize(sentences, padding=True, truncation=True, return_tensors="pt")
    network = loaded.network()
    ranks = [rank(similarities(network.at(**{axis: size}), batch)) for size in SIZES]
    return [float(torch.corrcoef(torch.stack([ranks[0], own]))[0, 1]) for own in ranks]


@torch.no_grad()
def similarities(module: nn.Module, batch: Any) -> Tensor:
    """Cosine similarities of all pairs of sentences [P]."""
    states = module.eval().base_model(**batch).last_hidden_state  # type: ignore[operator]
    mask = batch["attention_mask"].unsqueeze(-1)
    means = nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    return (means @ means.T)[torch.triu_indices(len(means), len(means), 1).unbind()]


def rank(values: Tensor) -> Tensor:
    return values.argsort().argsort().double()


def table(result: dict[str, Any]) -> str:
    lines = [f"| narrower by | units | {' | '.join(f'{size:g}' for size in SIZES)} |"]
    lines.append("|" + " --- |" * (len(SIZES) + 2))
    for row in result["rows"]:
        cells = " | ".join(f"{value:.2f}" for value in row["kept"])
        lines.append(f"| `{row['axis']}` | {row['order']} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    tell(main)
