"""The folder that `train` writes: its paths, manifest, metrics and checkpoints."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sortednet_cli.bounded import MAX_SPEC, read_bounded
from sortednet_cli.errors import RequestError, WorkError, as_word
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import RunSpec, dump_spec, parse_spec
from sortednet_cli.storage.checks import Checks, FileCheck, checks_of, files_under, write_sealed
from sortednet_cli.storage.files import new_folder, read_json, sync, write_json, write_text, writing
from sortednet_cli.storage.lock import write_lock
from sortednet_cli.storage.manifest import (
    FORMAT,
    Counters,
    RunManifest,
    RunTable,
    StoredRow,
    check_rows,
    read_checked,
    read_manifest,
)
from sortednet_cli.storage.temporary import sweep

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
_WHAT_IS_CUT = (
    "sub-models are cut out of runs, artifacts, and the folders that transformers' save_pretrained"
    " writes; weights alone, such as torchvision's, cannot be cut"
)

_MAX_POINTER = 100
"""Most bytes read from the pointer to a checkpoint."""


@dataclass(frozen=True)
class RunFolder:
    """Paths and small files of one run."""

    path: Path

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def statistics(self) -> Path:
        return self.path / "statistics.safetensors"

    @property
    def tokenizer(self) -> Path:
        """Folder of the tokenizer, in runs on texts."""
        return self.path / "tokenizer"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def pointer(self) -> Path:
        """The file that names the newest complete checkpoint, in one line."""
        return self.checkpoints / "latest"

    def checkpoint(self, update: int) -> Path:
        """The folder of a checkpoint."""
        return self.checkpoints / f"step-{update}"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def report(self) -> Path:
        """The page that `train.report` asks for. It has no checksum."""
        return self.path / "report.html"

    @property
    def table(self) -> Path:
        return self.path / "frontier.json"

    @classmethod
    def create(
        cls,
        path: Path,
        spec: RunSpec,
        manifest: Mapping[str, Any],
        save_tokenizer: Callable[[Path], object] | None = None,
    ) -> RunFolder:
        """Write a new run with its spec and manifest; RequestError if `path` exists.

        Args:
            save_tokenizer: writes the tokenizer's files into a folder, in runs on texts.
        """
        with new_folder(path) as staging:
            write_text(staging / "spec.toml", dump_spec(spec))
            (staging / "checkpoints").mkdir()
            (staging / "metrics.jsonl").touch()
            if save_tokenizer is not None:
                _save(save_tokenizer, RunFolder(staging).tokenizer)
            write_json(staging / "run.json", {"format": FORMAT, "state": "training", **manifest})
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run; RequestError if the folder is not a run."""
        if not (path / "run.json").is_file():
            raise RequestError(_no_run(path))
        run = cls(path)
        run.manifest()
        return run

    def manifest(self) -> RunManifest:
        """Read `run.json`; RequestError if it is damaged or its format is newer."""
        return read_manifest(self.path / "run.json", RunManifest)

    def checks(self) -> Checks:
        """Checksums of a finished run's files; an unfinished run has none, and may be edited."""
        manifest = self.manifest()
        files = manifest.files if manifest.state == "finished" else None
        return Checks(self.path / "run.json", files)

    def rows(self) -> tuple[StoredRow, ...]:
        """Read a finished run's table, with one row for each sub-model."""
        self.checks().verify(self.table)
        rows = read_checked(self.table, RunTable).submodels
        check_rows(rows, SearchSpace.of(self.spec().space), self.table)
        return rows

    def spec(self) -> RunSpec:
        file = self.path / "spec.toml"
        self.checks().verify(file)
        try:
            text = read_bounded(file, MAX_SPEC).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"{file} is damaged: {error}") from error
        return parse_spec(text, where=str(file), name=self.path.name, stored=True)

    @property
    def finished(self) -> bool:
        return self.manifest().state == "finished"

    def finish(self, seconds: float, computed: Mapping[Path, FileCheck]) -> None:
        """Mark the run finished, once all its files are on disk, and drop its checkpoint.

        Args:
            computed: checks that were already computed while the files were written.
        """
        files = [self.path / "spec.toml", self.weights, self.statistics, self.table]
        if self.tokenizer.is_dir():
            files += files_under(self.tokenizer)
        if self.metrics.is_file():
            files.append(self.metrics)
        self.sync_log()
        facts = {
            "format": FORMAT,
            "state": "finished",
            "finished": time.time(),
            "train_seconds": seconds,
            "files": checks_of(self.path, files, computed),
        }
        file = self.path / "run.json"
        write_sealed(file, {**read_json(file), **facts})
        self.drop_checkpoints()

    def drop_checkpoints(self) -> None:
        """Remove what only an unfinished training needs."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def require_unfinished(self) -> None:
        if self.finished:
            raise RequestError(
                f"{self.path} is finished; there is nothing to resume: train it anew with:"
                f" sortednet train --config {as_word(self.path / 'spec.toml')}"
            )

    def require_finished(self) -> None:
        if not self.finished:
            raise RequestError(
                f"{self.path} has no finished weights yet;"
                f" resume it with: sortednet train --resume {as_word(self.path)}"
            )

    def log(self, entry: Mapping[str, Any]) -> None:
        """Append one line to the metrics."""
        try:
            with self.metrics.open("a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise WorkError(f"cannot write {self.metrics}: {error.strerror or error}") from error

    def sync_log(self) -> None:
        """Wait until the metrics are on disk, so that no file written later is ahead of them."""
        with writing(self.metrics), suppress(FileNotFoundError):
            sync(self.metrics)

    def newest_checkpoint(self) -> tuple[Path, Counters] | None:
        """Return the checkpoint to resume from and its counters; None if there is none yet.

        Raises:
            RequestError: the pointer or the counters are damaged.
        """
        if not self.pointer.exists():
            return None
        folder = self.pointed_checkpoint()
        if folder is None:
            raise RequestError(f"{self.pointer} is damaged: it names no existing checkpoint")
        return folder, read_manifest(folder / "counters.json", Counters, unnumbered=1)

    def pointed_checkpoint(self) -> Path | None:
        """Return the folder that the pointer names, if it exists."""
        with suppress(OSError):
            content = read_bounded(self.pointer, _MAX_POINTER).decode(errors="replace")
            folder = self.checkpoints / content.removesuffix("\n")
            if re.fullmatch(r"step-[0-9]+\n?", content) and folder.is_dir():
                return folder
        return None

    def cut_log(self, update: int) -> None:
        """Remove the lines of updates after `update`: a resumed training repeats these."""
        if not self.metrics.is_file():
            return
        lines = self.metrics.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        kept = [line for line in lines if _update_of(line) <= update]
        write_text(self.metrics, "".join(kept))

    def clear(self) -> None:
        """Remove what a killed writer left unfinished. The caller must hold the run's lock."""
        sweep(self.path)
        sweep(self.checkpoints)
        newest = self.pointed_checkpoint()
        for folder in self.checkpoints.glob("step-*"):
            if folder != newest:
                # Nothing points to it: it may belong to a training resumed from another state.
                shutil.rmtree(folder, ignore_errors=True)

    def discard(self) -> None:
        """Remove the run. The caller must have created it, and hold its lock."""
        shutil.rmtree(self.path, ignore_errors=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the run for writing; RequestError names the process that holds it."""
        with write_lock(self.path):
            yield


def _no_run(path: Path) -> str:
    """Say what is in the place of a run."""
    if path.suffix == ".toml" and path.is_file():
        return f"{path} is a spec: `train` and `info --plan` take it with --config"
    if path.is_file():
        return f"{path} is a file: {_WHAT_IS_CUT}"
    if not path.is_dir():
        return f"no run at {path}: there is no such folder"
    if (path / "sortednet.json").is_file():
        return (
            f"{path} is an artifact, which cannot be resumed: train a new run; in Python, open it"
            " with load_artifact"
        )
    weights = any(file.suffix in _WEIGHTS for file in path.iterdir())
    return f"{path} is neither a run nor an artifact" + (f": {_WHAT_IS_CUT}" if weights else "")


def _save(save: Callable[[Path], object], folder: Path) -> None:
    try:
        save(folder)
    except Exception as error:  # transformers and tokenizers raise what they like
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WorkError(f"cannot write {folder}: {reason}") from error


def _update_of(line: str) -> int:
    try:
        return int(json.loads(line)["update"])
    except (ArithmeticError, ValueError, KeyError, TypeError, RecursionError):
        return 1 << 62  # A line truncated by a kill is newer than any checkpoint.
