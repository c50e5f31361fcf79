"""Many trainings and scorings in one process: does the memory it holds creep up?

    python -m benchmarks.speed.creep --minutes 60

Mixed work, in turn: trainings of image and language networks of several widths and batch sizes,
and the scores of all their sub-models, by the command line's own functions with the allocator as
the command line sets it. Resident memory is read after each round. What the library `tokenizers`
alone keeps of each tokenizer that has encoded is measured beside it, with nothing of this package.
Writes benchmarks/results/creep.json.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import tell, write
from sortednet_cli import allocator
from sortednet_cli.cli.main import run
from sortednet_cli.errors import WorkError

WORK = [
    ("digits-resnet", ["train.updates=30"]),
    ("digits-resnet", ["train.updates=10", "train.batch_size=512", "model.config.channels=[48]"]),
    ("pydoc-llama", ["train.updates=8"]),
    ("digits-resnet", ["train.updates=10", "train.channels_last=true", "space.width=[0.5, 1.0]"]),
    ("pydoc-llama", ["train.updates=4", "train.batch_size=24", "model.config.hidden_size=256"]),
]
"""Presets with what is set in them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/creep.json")
    parser.add_argument("--tokenizers", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tokenizers:
        print(json.dumps(of_tokenizers()))
        return
    allocator.keep_freed_memory()

    import torch

    torch.set_num_threads(options.threads)
    samples = measure(60 * options.minutes)
    words = [sys.executable, "-m", "benchmarks.speed.creep", "--tokenizers"]
    found = subprocess.run(words, check=True, capture_output=True, text=True)
    result = {"allocator": allocator.status(), "rounds": samples, **summary(samples)}
    result["tokenizers_mib"] = json.loads(found.stdout)
    write("creep", result, options.out)
    print(table(result))


def measure(seconds: float) -> list[dict[str, float]]:
    """Whole rounds of the work until the time is over, and at least two."""
    samples: list[dict[str, float]] = []
    start = time.monotonic()
    while len(samples) < 2 or time.monotonic() - start < seconds:
        for preset, settings in WORK:
            train_and_score(preset, settings)
        elapsed = time.monotonic() - start
        samples.append({"minutes": elapsed / 60, "resident_mib": resident_mib()})
    return samples


def train_and_score(preset: str, settings: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", f"--preset={preset}", *(f"--set={s}" for s in settings)]
        for arguments in ([*words, f"--out={folder}/run"], ["eval", f"{folder}/run", "--all"]):
            with contextlib.redirect_stdout(io.StringIO()):
                code = run([*arguments, "--quiet", "--device=cpu"])
            if code:
                raise WorkError(f"{' '.join(arguments)} ended with {code}")


def resident_mib() -> float:
    if sys.platform != "linux":
        raise WorkError("resident memory is read from Linux's /proc")
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def summary(samples: list[dict[str, float]]) -> dict[str, float]:
    """The most that was resident in the first and the last third of the rounds but the first."""
    settled = samples[1:]
    third = max(1, len(settled) // 3)
    return {
        "early_mib": max(sample["resident_mib"] for sample in settled[:third]),
        "late_mib": max(sample["resident_mib"] for sample in settled[-third:]),
    }


def of_tokenizers(count: int = 10) -> list[float]:
    """Resident MiB after each of some tokenizers that encode texts and are dropped."""
    from pydoc_data.topics import topics

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    texts, samples = list(topics.values()), []
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel()
    trained.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=2048, show_progress=False))
    for _ in range(count):
        Tokenizer.from_str(trained.to_str()).encode_batch(texts)
        gc.collect()
        samples.append(resident_mib())
    return samples


def table(result: dict[str, Any]) -> str:
    rounds, alone = result["rounds"], result["tokenizers_mib"]
    rows = [
        "| rounds | minutes | resident after the first | in the first third | in the last third |"
        " for each of its tokenizers | for each of `tokenizers` alone |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        f"| {len(rounds)} | {rounds[-1]['minutes']:.0f} | {rounds[0]['resident_mib']:,.0f} MiB"
        f" | {result['early_mib']:,.0f} MiB | {result['late_mib']:,.0f} MiB"
        f" | {growth(rounds) / tokenizers_a_round():.1f} MiB"
        f" | {(alone[-1] - alone[1]) / (len(alone) - 2):.1f} MiB |",
    ]
    return "\n".join(rows)


def growth(rounds: list[dict[str, float]]) -> float:
    """Mean growth of a round, MiB, after the first two."""
    return (rounds[-1]["resident_mib"] - rounds[1]["resident_mib"]) / (len(rounds) - 2)


def tokenizers_a_round() -> int:
    """A language training opens its tokenizer, and its scoring opens it again."""
    return 2 * sum(preset == "pydoc-llama" for preset, _ in WORK)


if __name__ == "__main__":
    tell(main)
