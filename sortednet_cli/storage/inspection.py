"""Compare every file of a run or an artifact with its checksum. Needs no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sortednet_cli.errors import RequestError
from sortednet_cli.storage.artifact import MANIFEST, ArtifactFolder
from sortednet_cli.storage.checks import Checks, files_under
from sortednet_cli.storage.exit_thresholds import check_thresholds
from sortednet_cli.storage.harness import check_harness
from sortednet_cli.storage.lock import HOLDER, LOCK
from sortednet_cli.storage.run import RunFolder


@dataclass
class Inspection:
    """The files of an undamaged run or artifact.

    Attributes:
        files: files whose content matches their checksum.
        num_bytes: their total size.
        unexpected: files in the folder that have no checksum.
        finished: False for an unfinished run, of which only the newest checkpoint is compared.
    """

    path: Path
    kind: str
    files: list[Path] = field(default_factory=list)
    num_bytes: int = 0
    unexpected: list[str] = field(default_factory=list)
    finished: bool = True


def inspect(path: Path, edited: Collection[str] = ()) -> Inspection:
    """Read every file of a run or an artifact and compare it with its checksum.

    Args:
        edited: files of an artifact that the user may have edited, which count as unexpected.

    Raises:
        RequestError: names each file that is damaged or missing; or the folder is neither a run
            nor an artifact, or has format 1, which stores no checksums.
    """
    inspection = Inspection(path, "artifact" if ArtifactFolder.is_one(path) else "run")
    problems = list(
        _artifact(inspection, edited) if inspection.kind == "artifact" else _run(inspection)
    )
    if problems:
        raise RequestError("; ".join(problems))
    checked = set(inspection.files)
    is_run = inspection.kind == "run"
    trackers = RunFolder.open(path).spec().train.tracker_names if is_run else ()
    report = [RunFolder(path).report.name] if is_run else []
    for file in files_under(path, [LOCK, HOLDER, *trackers, *report]):
        if file not in checked:
            inspection.unexpected.append(file.relative_to(path).as_posix())
    inspection.num_bytes = sum(file.stat().st_size for file in inspection.files)
    return inspection


def _artifact(inspection: Inspection, edited: Collection[str]) -> Iterator[str]:
    folder = ArtifactFolder.open(inspection.path)
    checks = Checks(inspection.path / MANIFEST, folder.manifest().files)
    yield from _compare(inspection, checks, edited)
    yield from _added(inspection)


def _run(inspection: Inspection) -> Iterator[str]:
    run = RunFolder.open(inspection.path)
    inspection.finished = run.finished
    if inspection.finished:
        yield from _compare(inspection, run.checks())
    yield from _added(inspection)
    try:
        newest = run.newest_checkpoint()
    except RequestError as error:
        yield str(error)
        return
    if newest is not None and newest[1].files is not None:
        yield from _compare(inspection, Checks(newest[0] / "counters.json", newest[1].files))
        inspection.files.append(run.pointer)


def _compare(inspection: Inspection, checks: Checks, edited: Collection[str] = ()) -> Iterator[str]:
    """Compare the files a manifest names with their checksums, and yield each problem."""
    if checks.files is None:
        raise RequestError(
            f"{inspection.path} has no checksums: it has format 1, which stores none. It still"
            " works; runs and artifacts written from now on have checksums"
        )
    inspection.files.append(checks.manifest)
    for name in (name for name in checks.files if name not in edited):
        file = checks.manifest.parent / name
        try:
            problem = checks.problem(file)
        except RequestError as error:
            yield str(error)
            continue
        if problem is None:
            inspection.files.append(file)
        else:
            yield f"{file} {problem}"


def _added(inspection: Inspection) -> Iterator[str]:
    """Check the files that commands add to a finished run, or to an artifact."""
    for check in (check_thresholds, check_harness):
        try:
            if file := check(inspection.path):
                inspection.files.append(file)
        except RequestError as error:
            yield str(error)
