"""Many trainings and scorings in one process: does the memory it holds creep up?

    python -m benchmarks.speed.creep --minutes 60

Mixed work, in turn: trainings of image and language networks of several widths and batch sizes,
and the scores of all their sub-models, by the command line's own functions with the allocator as
the command line sets it. Resident memory is read after each round. Writes
benchmarks/results/creep.json.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
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
    options = parser.parse_args()
    allocator.keep_freed_memory()

    import torch

    torch.set_num_threads(options.threads)
    samples = measure(60 * options.minutes)
    result = {"allocator": allocator.said(), "rounds": samples, **summary(samples)}
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


def table(result: dict[str, Any]) -> str:
    rounds = result["rounds"]
    rows = [
        "| rounds | minutes | resident after the first | in the first third | in the last third |",
        "| --- | --- | --- | --- | --- |",
        f"| {len(rounds)} | {rounds[-1]['minutes']:.0f} | {rounds[0]['resident_mib']:,.0f} MiB"
        f" | {result['early_mib']:,.0f} MiB | {result['late_mib']:,.0f} MiB |",
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    tell(main)
