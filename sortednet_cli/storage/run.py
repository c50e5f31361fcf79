"""The folder that a training writes. Knows files, not what trains."""

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
from sortednet_cli.errors import RequestError, WorkError
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import RunSpec, dump_spec, parse_spec
from sortednet_cli.storage.checks import Checks, FileCheck, checks_of, files_under, write_sealed
from sortednet_cli.storage.files import new_folder, read_json, sync, write_json, write_text, writing
from sortednet_cli.storage.lock import held
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

RUNS = Path("runs")

_NO_NAME = re.compile(
    r"""(con|prn|aux|nul|(com|lpt)[0-9\u00b9\u00b2\u00b3])\ *(\..*)? # devices of Windows
    | .*[<>:"|?*].*
    | .*[.\ ]""",
    re.IGNORECASE | re.VERBOSE,
)
"""Names that Windows gives to no folder; Linux and macOS refuse fewer."""

_LONGEST_NAME = 100
"""Bytes of the pointer to a checkpoint."""


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
        """Names the newest complete checkpoint, in one line."""
        return self.checkpoints / "latest"

    def checkpoint(self, update: int) -> Path:
        """The folder of a checkpoint."""
        return self.checkpoints / f"step-{update}"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

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
        """Open an existing run; RequestError if the folder is none."""
        if path.is_file():
            raise RequestError(f"{path} is a file, and a run is a folder; a spec goes to --config")
        if not path.is_dir():
            raise RequestError(f"no run at {path}: there is no such folder")
        if not (path / "run.json").is_file():
            raise RequestError(f"{path} is neither a run nor an artifact")
        run = cls(path)
        run.manifest()
        return run

    def manifest(self) -> RunManifest:
        """Read `run.json`; RequestError if it is damaged or of a newer format."""
        return read_manifest(self.path / "run.json", RunManifest)

    def checks(self) -> Checks:
        """The checksums of its files, once it is finished; before, their owner may edit them."""
        manifest = self.manifest()
        files = manifest.files if manifest.state == "finished" else None
        return Checks(self.path / "run.json", files)

    def rows(self) -> tuple[StoredRow, ...]:
        """Read the table of a finished run: one row for each sub-model."""
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
        return parse_spec(text, where=str(file), name=self.path.name)

    @property
    def finished(self) -> bool:
        return self.manifest().state == "finished"

    def finish(self, seconds: float, known: Mapping[Path, FileCheck]) -> None:
        """Mark the run finished: everything it promises is on disk now.

        Args:
            known: checksums of files that were made while these were written.
        """
        own = [self.path / "spec.toml", self.weights, self.statistics, self.table]
        if self.tokenizer.is_dir():
            own += files_under(self.tokenizer)
        if self.metrics.is_file():
            own.append(self.metrics)
        self.sync_log()
        facts = {
            "format": FORMAT,
            "state": "finished",
            "finished": time.time(),
            "train_seconds": seconds,
            "files": checks_of(self.path, own, known),
        }
        file = self.path / "run.json"
        write_sealed(file, {**read_json(file), **facts})

    def require_unfinished(self) -> None:
        if self.finished:
            raise RequestError(f"{self.path} is finished; there is nothing to go on with")

    def require_finished(self) -> None:
        if not self.finished:
            raise RequestError(
                f"{self.path} has no finished weights yet;"
                f" go on with: sortednet train --resume {self.path}"
            )

    def log(self, entry: Mapping[str, Any]) -> None:
        """Append one line to the metrics."""
        try:
            with self.metrics.open("a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise WorkError(f"cannot write {self.metrics}: {error.strerror or error}") from error

    def sync_log(self) -> None:
        """Wait until the metrics are on disk: what is written next is to be no newer than they."""
        with writing(self.metrics), suppress(FileNotFoundError):
            sync(self.metrics)

    def newest_checkpoint(self) -> tuple[Path, Counters] | None:
        """Find the checkpoint to go on from, and read its counters; None if there is none yet.

        Raises:
            RequestError: the pointer to it or its counters are damaged.
        """
        if not self.pointer.exists():
            return None
        folder = self.pointed()
        if folder is None:
            raise RequestError(f"{self.pointer} is damaged: it names no checkpoint that is there")
        return folder, read_manifest(folder / "counters.json", Counters, unnumbered=1)

    def pointed(self) -> Path | None:
        """The folder that the pointer names, if it is there."""
        with suppress(OSError):
            content = read_bounded(self.pointer, _LONGEST_NAME).decode(errors="replace")
            folder = self.checkpoints / content.removesuffix("\n")
            if re.fullmatch(r"step-[0-9]+\n?", content) and folder.is_dir():
                return folder
        return None

    def cut_log(self, update: int) -> None:
        """Drop the lines of updates after `update`: they will be made again."""
        if not self.metrics.is_file():
            return
        lines = self.metrics.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        kept = [line for line in lines if _update_of(line) <= update]
        write_text(self.metrics, "".join(kept))

    def clear(self) -> None:
        """Remove what a killed writer left half done; only for who holds the run."""
        sweep(self.path)
        sweep(self.checkpoints)
        known = self.pointed()
        for folder in self.checkpoints.glob("step-*"):
            if folder != known:
                # Nothing points to it: a training that went on from elsewhere may have made it.
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for writing; RequestError tells who holds it otherwise."""
        with held(self.path):
            yield


def default_place(name: str) -> Path:
    """Where a run of that name lies, unless the user says where.

    Raises:
        RequestError: there is a system that has no folders of that name.
    """
    if _NO_NAME.fullmatch(name):
        raise RequestError(
            f"name: {name!r} cannot name a folder on every system: it holds none of"
            ' < > : " | ? *, ends with no dot or space, and is no device of Windows (CON, NUL,'
            " COM1, ...); give --out, or --set name=NAME"
        )
    return RUNS / name


def newest_run(*, finished: bool) -> RunFolder:
    """Find the newest finished (or newest unfinished) run under `runs/`.

    Raises:
        RequestError: there is none.
    """
    found = []
    for file in RUNS.glob("*/run.json"):
        try:
            manifest = RunFolder(file.parent).manifest()
        except RequestError:
            continue  # A damaged run is no candidate; naming it opens it and says why.
        if (manifest.state == "finished") == finished:
            found.append((manifest.finished or manifest.created, file.parent))
    if not found:
        kind = "finished" if finished else "unfinished"
        hint = "; train one with: sortednet train --preset digits-resnet" if finished else ""
        raise RequestError(f"no {kind} run under {RUNS}/{hint}")
    return RunFolder.open(max(found)[1])


def unfinished_run(path: Path | None) -> RunFolder:
    """Open the run to go on with, the newest unfinished one if none is named.

    Raises:
        RequestError: there is none, or it is finished.
    """
    folder = newest_run(finished=False) if path is None else RunFolder.open(path)
    folder.require_unfinished()
    return folder


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
        return 1 << 62  # A line cut short by a kill is later than any checkpoint.
