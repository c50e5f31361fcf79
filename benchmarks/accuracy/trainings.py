"""What benchmarks of accuracy share: trainings through the command line, kept in a folder.

A training that is finished there is read, not repeated, and one that was interrupted goes on, so
that any of these benchmarks may be stopped and started. Each training uses one thread, or with
`--processes` one thread of each of several processes; `--jobs` runs so many trainings at once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sortednet_cli.space import SubModel
from sortednet_cli.spec import RunSpec, load_preset, load_spec_file

ALONE = (
    "train.rule=single",
    "train.distill=false",
    "train.largest_first=0",
    "train.smallest_first=0",
    "train.crossing_lr=1",
    "train.draws=1",
    "train.always_largest=false",
    "train.depth_weights=",
    "train.last_depth_weights=",
    "train.random_exits=",
    "model.init=stock",
    "model.norms=shared",
)
"""What makes a training one of the largest sub-model by itself."""

Row = dict[str, Any]
Result = dict[str, Any]


def alone(axes: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes a training one of the sub-model with these axes by itself."""
    return (*ALONE, *(f"space.{axis}=[{value}]" for axis, value in axes.items()))


@dataclass(frozen=True)
class Training:
    """One training: its folder's name, its preset or spec file, and what it sets beside."""

    name: str
    preset: str
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trainer:
    """Trains through `sortednet train`, each training in a folder of `work`.

    Attributes:
        data: given to every training as --data.
        jobs: trainings at a time.
        processes: of each training. Two take the samples of one where `train.accumulate` is halved.
    """

    work: Path
    data: Path | None = None
    jobs: int = 1
    processes: int = 1

    def folder(self, training: Training) -> Path:
        """Its folder: trainings of one name with other specs or data are other trainings."""
        spec = load_any(training.preset, training.settings)
        data = "" if self.data is None else self.data.name
        asked = f"{spec.model_dump_json()}{data}".encode()
        return self.work / f"{training.name}-{hashlib.sha256(asked).hexdigest()[:8]}"

    def results(self, trainings: Iterable[Training]) -> list[Result]:
        """Train all that are not finished; return the results in the order of the trainings."""
        self.work.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(self.jobs) as pool:
            return list(pool.map(self._result, trainings))

    def _result(self, training: Training) -> Result:
        run = self.folder(training)
        if not _is_finished(run):
            start = time.monotonic()
            done = subprocess.run(
                self._command(training),
                check=False,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            if done.returncode:  # which it has told itself
                raise SystemExit(done.returncode)
            print(f"{training.name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
        asked = {"preset": training.preset, "settings": list(training.settings)}
        several = {"processes": self.processes} if self.processes > 1 else {}
        return {"name": training.name, **asked, **several, **read_run(run)}

    def _command(self, training: Training) -> list[str]:
        run = self.folder(training)
        several = ["torch.distributed.run", f"--nproc-per-node={self.processes}", "-m"]
        launcher = several if self.processes > 1 else []
        start = [sys.executable, "-m", *launcher, "sortednet_cli", "train", "--quiet"]
        if (run / "spec.toml").is_file():
            return [*start, "--resume", str(run)]
        sets = [word for setting in training.settings for word in ("--set", setting)]
        given = ["--data", str(self.data)] if self.data is not None else []
        option = "--config" if _is_file(training.preset) else "--preset"
        return [*start, option, training.preset, "--out", str(run), *given, *sets]


def load_any(preset: str, settings: Iterable[str]) -> RunSpec:
    """Load a preset, or the spec file of that name."""
    if _is_file(preset):
        return load_spec_file(Path(preset), list(settings))
    return load_preset(preset, list(settings))


def _is_file(preset: str) -> bool:
    return preset.endswith(".toml")


def read_run(run: Path) -> Result:
    """What is kept of a finished run; wall time holds its scoring, and pauses before a resume."""
    manifest = json.loads((run / "run.json").read_text(encoding="utf-8"))
    rows = json.loads((run / "frontier.json").read_text(encoding="utf-8"))["submodels"]
    return {
        "updates": _updates(run),
        "train_seconds": manifest["train_seconds"],
        "wall_seconds": manifest["finished"] - manifest["created"],
        "versions": manifest["versions"],
        "data": manifest["data"]["source"],
        "rows": [
            {"name": SubModel.of(row["axes"]).name, **{key: row[key] for key in KEPT}}
            for row in rows
        ],
    }


def _is_finished(run: Path) -> bool:
    manifest = run / "run.json"
    if not manifest.is_file():
        return False
    return bool(json.loads(manifest.read_text(encoding="utf-8"))["state"] == "finished")


def _updates(run: Path) -> int:
    """How many updates a finished run took: its log ends with the last."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return int(json.loads(lines[-1])["update"])


KEPT = ("axes", "params", "macs", "metrics")
"""What a result keeps of a sub-model's row."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of every benchmark that trains."""
    parser.add_argument("--data", type=Path, help="given to every training")
    parser.add_argument("--work", type=Path, default=Path("trainings"), help="keeps the trainings")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--processes", type=int, default=1, help="of each training, a thread each")


def trainer_of(options: argparse.Namespace) -> Trainer:
    return Trainer(options.work, options.data, options.jobs, options.processes)


def score(row: Row, part: str) -> float:
    """Accuracy, or minus the loss where that is the logarithm of a perplexity."""
    metrics = row["metrics"][part]
    return float(-metrics["loss"] if "perplexity" in metrics else metrics["accuracy"])


def mean_score(result: Result, part: str) -> float:
    rows = result["rows"]
    return sum(score(row, part) for row in rows) / len(rows)


def largest(result: Result) -> Row:
    row: Row = max(result["rows"], key=lambda row: row["macs"])
    return row


def smallest(result: Result) -> Row:
    row: Row = min(result["rows"], key=lambda row: row["macs"])
    return row
