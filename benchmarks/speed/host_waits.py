"""How often the host waits for a GPU: in updates, scores and decoding, on one that is pretended.

    python -m benchmarks.speed.host_waits [--before CHECKOUT]

Counts do not depend on how wide a network is or on its weights: the presets' networks are made
narrow, with small batches of random images or of the texts that come with Python. `--before` counts
with the package of another checkout beside. Writes benchmarks/results/host_waits.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, cast

import torch

from benchmarks.harness import network_of, tell, write
from benchmarks.pretended import PretendedGpu
from sortednet_cli.data import InputFormat, open_texts
from sortednet_cli.data.images.augment import Augmentation
from sortednet_cli.data.images.dataset import Images
from sortednet_cli.data.images.memory import MemoryPart, MemoryTrainingPart
from sortednet_cli.engine.evaluation.batch_sizes import BatchSizes
from sortednet_cli.engine.evaluation.score import ensure_statistics, score
from sortednet_cli.engine.generation import (
    Decoder,
    DecodingStats,
    EarlyExit,
    Greedy,
    Plain,
    Sampling,
    Strategy,
)
from sortednet_cli.engine.sources.root import task_of
from sortednet_cli.engine.training.loop import Position, Trainer
from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.nesting import NestedNetwork, ignore_layout_warning
from sortednet_cli.rules import make_rule
from sortednet_cli.spec import RunSpec

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
BATCH, SAMPLES, UPDATES, TOKENS = 8, 64, 8, 48
SIZES = BatchSizes(scored=16, measured=16)
SPLITS = ("validation", "test")
NARROW = (
    "model.config.hidden_size=64",
    "model.config.num_attention_heads=4",
    "model.config.intermediate_size=64",
    "data.max_length=64",
    "data.vocab_size=300",
)
CASES = {
    "cifar10-resnet": (),
    "cifar10-mobilenetv2": (),
    "gsm8k-llama": (*NARROW, "model.config.num_key_value_heads=4"),
    "shakespeare-llama": (*NARROW, "model.config.num_key_value_heads=4"),
    "sst2-bert": (*NARROW, "model.config.vocab_size=300"),
}
WAYS: dict[str, tuple[Callable[[Decoder], Strategy], bool]] = {
    "one token at a time": (lambda decoder: Plain(), False),
    "one token at a time, drawn": (lambda decoder: Plain(), True),
    "leaving at 2 of 6 layers": (lambda decoder: EarlyExit({2: 0.0}), False),
    "4 drafts a round": (lambda decoder: decoder.speculative(2, 4), False),
    "4 drafts a round, drawn": (lambda decoder: decoder.speculative(2, 4), True),
}


@dataclass(frozen=True)
class Made:
    """A preset's network and data, and what counts their waits."""

    gpu: PretendedGpu
    spec: RunSpec
    network: NestedNetwork
    data: Any

    def waits(self, run: Callable[[], object]) -> int:
        self.gpu.waits.clear()
        run()
        return self.gpu.waits.total()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="a checkout of another commit")
    parser.add_argument("--print", action="store_true", help="print the counts as JSON alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ignore_layout_warning()
    counts = measure()
    if options.print:
        print(json.dumps(counts))
        return
    before = {} if options.before is None else {"before": measured_in(options.before)}
    result = {"now": counts, **before}
    write("host_waits", result)
    print(table(result), decoding(result), sep="\n\n")


def table(result: dict[str, Any]) -> str:
    """Waits of training and scoring, a row for each network."""
    rows = [
        "| network | an update | statistics of a width | scores of a width |",
        "| --- | --- | --- | --- |",
    ]
    for name, now in result["now"]["networks"].items():
        before = result["before"]["networks"][name]
        cells = [
            f"{before[key]:g} -> {now[key]:g}" if before[key] or now[key] else "none"
            for key in ("update", "statistics", "scores")
        ]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def decoding(result: dict[str, Any]) -> str:
    """Waits of decoding for each token, a row for each way."""
    rows = ["| way | tokens a round | waits a round |", "| --- | --- | --- |"]
    for name, now in result["now"]["decoding"].items():
        before = result["before"]["decoding"][name]
        shown = " -> ".join(f"{c['waits'] / c['rounds']:.1f}" for c in (before, now))
        rows.append(f"| {name} | {now['tokens'] / now['rounds']:.1f} | {shown} |")
    return "\n".join(rows)


def measured_in(checkout: Path) -> dict[str, Any]:
    """The counts of the package in another checkout, by this script."""
    with tempfile.TemporaryDirectory() as folder:
        for name, place in (
            ("sortednet_cli", checkout),
            ("presets", checkout),
            ("benchmarks", ROOT),
        ):
            (Path(folder) / name).symlink_to((place / name).resolve())
        line = [sys.executable, "-m", "benchmarks.speed.host_waits", "--print"]
        done = subprocess.run(line, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    counts: dict[str, Any] = json.loads(done.stdout)
    return counts


def measure() -> dict[str, Any]:
    networks, ways = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        texts = written_texts(Path(folder))
        for preset, overrides in CASES.items():
            with PretendedGpu() as gpu:
                made = make(gpu, preset, [*overrides, "train.smallest_first=0"], texts)
                networks[preset] = count(made)
                if preset == "shakespeare-llama":
                    ways = {name: decode(made, *way) for name, way in WAYS.items()}
    return {"networks": networks, "decoding": ways}


def make(gpu: PretendedGpu, preset: str, overrides: list[str], texts: dict[str, Path]) -> Made:
    if preset in texts:
        overrides.append(f"data.path={texts[preset]}")
    overrides.append(f"train.batch_size={BATCH}")
    spec, inputs, network = network_of(preset, overrides)
    data: Any
    with gpu.paused():
        if preset in texts:
            data = open_texts(cast(Any, spec.data), spec.task)
        else:
            data = random_images(inputs)
    return Made(gpu, spec, network, data)


def random_images(inputs: InputFormat) -> Images:
    shape = inputs.random_inputs(4 * SAMPLES).shape  # type: ignore[union-attr]
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.arange(len(images)) % 10
    form = cast(Any, inputs)
    train = MemoryTrainingPart(images, labels, form, Augmentation("crop", 4, True))
    small = [MemoryPart(images[:SAMPLES], labels[:SAMPLES], form) for _ in range(2)]
    return Images(form, train, *small)


def written_texts(folder: Path) -> dict[str, Path]:
    """Files of plain texts, of questions with answers, and of texts with classes, by preset."""
    lines = [line for text in topics.values() for line in text.splitlines() if len(line) > 40]
    few = lines[:600]
    files = {
        "shakespeare-llama": ("texts.txt", "\n\n".join(few)),
        "gsm8k-llama": (
            "asked.jsonl",
            "\n".join(json.dumps({"question": line[:20], "answer": line[20:]}) for line in few),
        ),
        "sst2-bert": (
            "labelled.jsonl",
            "\n".join(json.dumps({"sentence": s, "label": n % 2}) for n, s in enumerate(few)),
        ),
    }
    for name, text in files.values():
        (folder / name).write_text(text, encoding="utf-8")
    return {preset: folder / name for preset, (name, _) in files.items()}


def count(made: Made) -> dict[str, float]:
    """Waits of an update, and of statistics and scores of the first width's sub-models."""
    network, data, spec = made.network, made.data, made.spec.train
    endless = spec.model_copy(update={"updates": 1 << 30, "epochs": None})
    task, rule = task_of(data.format), make_rule(endless, network.space)
    optimizer = RootOptimizer(network, endless)
    optimizer.skips_on_device = True  # as on a GPU
    trainer = Trainer(network, task, rule, data, optimizer, endless)
    group = network.groups(network.space.submodels)[0]
    for submodel in network.space.submodels:
        network.at(submodel)
    running = trainer.updates(Position(), lambda: False)
    next(running)
    updates = made.waits(lambda: [next(running) for _ in range(UPDATES)]) / UPDATES
    for split in SPLITS:
        next(getattr(data, split).batches(1, CPU))
    parts = [getattr(data, split) for split in SPLITS]
    batches = sum(-(-len(part) // SIZES.scored) for part in parts)
    return {
        "submodels": len(group),
        "batches": batches,
        "update": updates,
        "statistics": made.waits(lambda: ensure_statistics(network, group, data, SIZES, SAMPLES)),
        "scores": made.waits(lambda: score(network, group, data, SPLITS, task, SIZES)),
    }


def decode(made: Made, way: Callable[[Decoder], Strategy], is_drawn: bool) -> dict[str, int]:
    """Waits of a text, without those of the prompt."""
    network = made.network
    decoder = Decoder(network.standalone(network.space.largest), [2, 4])
    chooser, stats = Sampling(0.8, 0.9) if is_drawn else Greedy(), DecodingStats()
    tokens = decoder.stream(range(5, 20), way(decoder), TOKENS, chooser=chooser, stats=stats)
    next(tokens)
    waits = made.waits(lambda: list(tokens))
    rounds = stats.passes or TOKENS - 1
    return {"tokens": TOKENS - 1, "rounds": rounds, "drafted": stats.drafted, "waits": waits}


if __name__ == "__main__":
    tell(main)
