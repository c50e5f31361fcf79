"""Every tracker, tried with its real package: recorded, stopped, resumed, and read back.

    pip install '.[tensorboard,wandb,mlflow,trackio]'
    python -m benchmarks.trackers

The tests train with stand-ins of the packages that the development environment lacks. This trains
with the packages themselves, on this machine and logged in nowhere: it stops a run of four updates
after the second, resumes it in another process, and reads the record with the package's own reader.
Writes benchmarks/results/trackers.json.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.harness import tell, write

UPDATES, STOP_AFTER = 4, 2
BEGIN = f"""
import sys
from pathlib import Path
from sortednet_cli.engine import Interrupted, TrainRequest, Updated, train
from sortednet_cli.spec import load_preset
name, out = sys.argv[1:]
settings = [
    "space.width=[0.5, 1.0]", "space.depth=[1, 8]", "model.config.channels=[8]",
    "train.updates={UPDATES}", "train.log_every=1", f"train.trackers=['{{name}}']",
]
seen = []
request = TrainRequest(load_preset("digits-resnet", settings), Path(out), device="cpu")
try:
    for event in train(request, lambda: {STOP_AFTER} in seen):
        if isinstance(event, Updated):
            seen.append(event.update)
except Interrupted:
    sys.exit()
sys.exit("it was not interrupted")
"""


@dataclass(frozen=True)
class Found:
    """What a tracker's own reader finds of a run.

    Attributes:
        records: how many runs there are.
        losses: the loss of each update.
        rows: how many sub-models the table has; None if the tracker shows none.
        picture: whether the picture of the frontier is there.
    """

    records: int
    losses: Mapping[int, float]
    rows: int | None
    picture: bool


def read_tensorboard(run: Path) -> Found:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    losses = {event.step: event.value for event in events.Scalars("train/loss")}
    (image,) = events.Images("frontier")
    return Found(1, losses, None, _is_png(image.encoded_image_string))


def read_wandb(run: Path) -> Found:
    """Read the files that `wandb sync` would upload: one of each process, under one id."""
    ids, losses, rows, picture = set(), {}, None, False
    for folder in sorted((run / "wandb").glob("offline-run-*")):
        (file,) = folder.glob("run-*.wandb")
        for record in _wandb_records(file.read_bytes()):
            if record.HasField("run"):
                ids.add(record.run.run_id)
            values = {
                (item.key or "/".join(item.nested_key)): json.loads(item.value_json)
                for item in record.history.item
            }
            if "train/loss" in values:
                losses[int(values["_step"])] = float(values["train/loss"])
            rows = values.get("submodels/nrows", rows)
            if path := values.get("frontier/path"):
                picture = _is_png((folder / "files" / path).read_bytes())
    return Found(len(ids), losses, rows, picture)


def _wandb_records(data: bytes) -> Iterator[Any]:
    """The records of a `.wandb` file: a log of LevelDB's form after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    header, block, place, whole = struct.Struct("<IHB"), 32768, 7, b""
    while place + header.size <= len(data):
        if (left := block - place % block) < header.size:
            place += left
            continue
        _, size, kind = header.unpack_from(data, place)
        place += header.size
        whole += data[place : place + size]
        place += size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def read_mlflow(run: Path) -> Found:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{run / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("sortednet")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    number = runs[0].info.run_id
    assert runs[0].info.status == "FINISHED" and runs[0].data.params["train.updates"] == "4"
    history = client.get_metric_history(number, "train/loss")
    assert len(history) == len({metric.step for metric in history})
    spec = Path(client.download_artifacts(number, "spec.toml"))
    assert spec.read_bytes() == (run / "spec.toml").read_bytes()
    table = Path(client.download_artifacts(number, "submodels.json"))
    picture = Path(client.download_artifacts(number, "frontier.png"))
    return Found(
        len(runs),
        {metric.step: metric.value for metric in history},
        len(json.loads(table.read_text())["submodels"]),
        _is_png(picture.read_bytes()),
    )


def read_trackio(run: Path) -> Found:
    def told(*words: str) -> Any:
        program = Path(sys.executable).with_name("trackio")
        words = (*words, "--project", "sortednet", "--json")
        done = subprocess.run([program, *words], check=True, capture_output=True, text=True)
        return json.loads(done.stdout)

    names = told("list", "runs")["runs"]
    name = (run / "trackio" / "id").read_text().strip()
    values = told("get", "metric", "--run", name, "--metric", "train/loss")["values"]
    (table,) = told("get", "metric", "--run", name, "--metric", "submodels")["values"]
    (image,) = told("get", "metric", "--run", name, "--metric", "frontier")["values"]
    file = Path(os.environ["TRACKIO_DIR"]) / "media" / image["value"]["file_path"]
    losses = {value["step"]: value["value"] for value in values}
    return Found(len(names), losses, len(table["value"]["_value"]), _is_png(file.read_bytes()))


def _is_png(content: bytes) -> bool:
    return content.startswith(b"\x89PNG")


READERS: dict[str, tuple[str, Callable[[Path], Found]]] = {
    "tensorboard": ("tensorboard", read_tensorboard),
    "wandb": ("wandb", read_wandb),
    "mlflow": ("mlflow-skinny", read_mlflow),
    "trackio": ("trackio", read_trackio),
}
"""By tracker: its package, and what reads a run's record."""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("WANDB_MODE", "WANDB_API_KEY", "MLFLOW_TRACKING_URI", "TRACKIO_SPACE_ID"):
            os.environ.pop(name, None)
        # No credentials that lie elsewhere on this machine, and no database of others.
        os.environ |= {"TRACKIO_DIR": f"{folder}/trackio", "NETRC": f"{folder}/none"}
        tried = [
            {"tracker": name, "package": package, "version": version(package), **trial}
            for name, (package, reader) in READERS.items()
            for trial in [try_tracker(name, reader, Path(folder) / name)]
        ]
    write("trackers", {"updates": UPDATES, "stopped_after": STOP_AFTER, "trackers": tried})


def try_tracker(name: str, reader: Callable[[Path], Found], run: Path) -> dict[str, Any]:
    """Train, stop, resume and read; compare the losses with those of `metrics.jsonl`."""
    subprocess.run([sys.executable, "-c", BEGIN, name, run], check=True)
    resume = [sys.executable, "-m", "sortednet_cli", "train", "--resume", str(run), "--device=cpu"]
    done = subprocess.run([*resume, "--quiet"], check=True, capture_output=True, text=True)
    found = reader(run)
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    logged = {entry["update"]: entry["loss"] for entry in map(json.loads, lines)}
    rows = len(json.loads((run / "frontier.json").read_text(encoding="utf-8"))["submodels"])
    return {
        **asdict(found),
        "same_losses": _same(found.losses, logged),
        "same_rows": found.rows in (None, rows),
        "prints_the_path_alone": done.stdout == f"{run}\n" and not done.stderr,
    }


def _same(found: Mapping[int, float], logged: Mapping[int, float]) -> bool:
    """Whether losses agree: TensorBoard's are of single precision."""
    return found.keys() == logged.keys() and all(
        abs(found[update] - loss) <= 1e-6 * abs(loss) for update, loss in logged.items()
    )


def table(result: Any) -> str:
    """The result as a table of Markdown."""
    lines = [
        "| tracker | package tried | runs after a resume | updates | sub-models | picture |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["trackers"]:
        lines.append(
            f"| `{row['tracker']}` | {row['package']} {row['version']} | {row['records']}"
            f" | {len(row['losses'])} of {result['updates']} | {row['rows'] or 'none'}"
            f" | {'yes' if row['picture'] else 'no'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    tell(main)
