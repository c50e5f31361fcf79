"""Every sub-model of one nested training beside the same sub-model trained alone.

    python benchmarks/lone_twins.py shakespeare-llama --data input.txt \\
        --lr 1e-3 5e-4 --alone-lr 1e-3 5e-4

trains the preset once for each learning rate (and `--variant` of its settings), then each of
its sub-models by itself with the rule `single`: the same root, the same slice of it, the same
samples in the same order, one training for each learning rate. Each side keeps the run that
validates best, the nested network by the mean over its sub-models, a twin by itself. Test
figures are read once that choice is made. Everything goes through the command line.

Runs are kept under --work, and what is finished there is not trained again, so that the
benchmark may be stopped and started. Each run uses one thread; --jobs runs so many at once.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

Row = dict[str, Any]
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Job:
    """One training: its folder's name and what it sets beside the preset's own."""

    name: str
    settings: tuple[str, ...]
    lr: float


def main() -> None:
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    variants = [tuple(words.split()) for words in options.variant or [""]]
    with ThreadPoolExecutor(options.jobs) as pool:
        run = partial(train, options.preset, options.data, options.work)
        nested = list(pool.map(run, nested_jobs(variants, options)))
        chosen = best(nested, lambda result: mean_score(result["rows"]))
        twins = list(pool.map(run, twin_jobs(chosen["rows"], options)))
    result = compare(chosen, nested, twins)
    result["preset"], result["shared_settings"] = options.preset, options.set
    result["command"] = " ".join(["python", "benchmarks/lone_twins.py", *shown(sys.argv[1:])])
    options.out = options.out or RESULTS / f"{options.preset.replace('-', '_')}_twins.json"
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--lr", type=float, nargs="+", required=True, help="of the nested network")
    parser.add_argument("--alone-lr", type=float, nargs="+", required=True, help="of the twins")
    parser.add_argument("--set", action="append", default=[], help="a setting of both sides")
    parser.add_argument(
        "--variant", action="append", help="settings of the nested side alone, by spaces; repeat"
    )
    parser.add_argument("--work", type=Path, default=Path("lone-twins"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def shown(words: Sequence[str]) -> list[str]:
    """The command's words as a reader would type them: paths by their last name."""
    return [
        Path(word).name if "/" in word else f"'{word}'" if " " in word else word for word in words
    ]


def nested_jobs(variants: list[tuple[str, ...]], options: argparse.Namespace) -> list[Job]:
    return [
        Job(f"nested-{number}-{lr:g}", (*options.set, *variant), lr)
        for number, variant in enumerate(variants)
        for lr in options.lr
    ]


def twin_jobs(rows: list[Row], options: argparse.Namespace) -> list[Job]:
    """One job for each sub-model and learning rate, the largest first."""
    jobs = []
    for row, lr in itertools.product(reversed(rows), options.alone_lr):
        space = [f"space.{axis}=[{value}]" for axis, value in row["axes"].items()]
        alone = ("train.rule=single", "train.distill=false", *space)
        jobs.append(Job(f"{row['name']}-{lr:g}", (*options.set, *alone), lr))
    return jobs


def train(preset: str, data: Path | None, work: Path, job: Job) -> Row:
    """Train one job through the command line, or read it where it is finished."""
    out, done = work / job.name, work / f"{job.name}.json"
    if done.exists():
        finished: Row = json.loads(done.read_text())
        return finished
    shutil.rmtree(out, ignore_errors=True)  # what a stopped benchmark left half-trained
    command = ["sortednet", "train", "--preset", preset, "--quiet", "--out", str(out)]
    command += ["--data", str(data)] if data is not None else []
    for setting in (*job.settings, f"train.lr={job.lr}"):
        command += ["--set", setting]
    start = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    seconds = time.monotonic() - start
    manifest = json.loads((out / "run.json").read_text())
    rows = json.loads((out / "frontier.json").read_text())["submodels"]
    for row in rows:
        row["name"] = "-".join(f"{axis}{value:g}" for axis, value in row["axes"].items())
    result = {
        "name": job.name,
        "settings": job.settings,
        "lr": job.lr,
        "wall_seconds": seconds,
        "train_seconds": manifest["train_seconds"],
        "versions": manifest["versions"],
        "data": manifest["data"]["source"],
        "rows": [
            {key: row[key] for key in ("name", "axes", "params", "macs", "metrics")} for row in rows
        ],
    }
    done.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{job.name}: {mean_score(rows):.4f} validation, {seconds:.0f} s", file=sys.stderr)
    return result


def score(row: Row, part: str) -> float:
    """Accuracy, or minus the loss where that is the logarithm of a perplexity."""
    metrics = row["metrics"][part]
    return float(-metrics["loss"] if "perplexity" in metrics else metrics["accuracy"])


def mean_score(rows: list[Row]) -> float:
    return statistics.fmean(score(row, "validation") for row in rows)


def best(results: list[Row], key: Callable[[Row], float]) -> Row:
    return max(results, key=key)


def compare(chosen: Row, nested: list[Row], twins: list[Row]) -> Row:
    """Put every sub-model of the chosen nested run beside its best twin."""
    submodels = []
    for row in reversed(chosen["rows"]):
        same = [twin for twin in twins if twin["rows"][0]["axes"] == row["axes"]]
        twin = best(same, lambda result: score(result["rows"][0], "validation"))
        submodels.append(
            {
                **row,
                "alone": twin["rows"][0]["metrics"],
                "alone_lr": twin["lr"],
                "alone_train_seconds": twin["train_seconds"],
                "alone_by_lr": {
                    f"{one['lr']:g}": score(one["rows"][0], "validation") for one in same
                },
            }
        )
    return {
        "data": chosen["data"],
        "versions": chosen["versions"],
        "machine": f"{platform.machine()}, one thread a run",
        "chosen": {key: chosen[key] for key in ("settings", "lr", "train_seconds")},
        "nested_tried": [
            {
                **{key: one[key] for key in ("settings", "lr", "train_seconds")},
                "mean_validation_score": mean_score(one["rows"]),
                "test": {row["name"]: score(row, "test") for row in one["rows"]},
            }
            for one in nested
        ],
        "submodels": submodels,
    }


def table(result: Row) -> str:
    """Test figures of every sub-model, nested and alone, as Markdown."""
    accurate = "perplexity" not in result["submodels"][0]["alone"]["test"]
    metric = "accuracy" if accurate else "perplexity"
    lines = [
        f"| sub-model | parameters | {metric} nested | {metric} alone | ratio | lr alone |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    ratios = []
    for row in result["submodels"]:
        pair = [row["metrics"]["test"][metric], row["alone"]["test"][metric]]
        ratios.append(pair[0] / pair[1])
        cells = [f"{100 * value:.1f}" if accurate else f"{value:.2f}" for value in pair]
        size = f"{row['params'] / 1e6:.2f} M"
        shares = f"{ratios[-1]:.3f} | {row['alone_lr']:g}"
        lines.append(f"| {row['name']} | {size} | {' | '.join(cells)} | {shares} |")
    seconds = sum(row["alone_train_seconds"] for row in result["submodels"])
    worst = min(ratios) if accurate else max(ratios)
    lines += [
        "",
        f"Ratio nested/alone: mean {statistics.fmean(ratios):.3f}, worst {worst:.3f}, largest"
        f" {ratios[0]:.3f}. Training took {result['chosen']['train_seconds']:.0f} s nested and"
        f" {seconds:.0f} s for the {len(ratios)} chosen twins together.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
