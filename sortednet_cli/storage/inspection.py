"""Comparing every file of a run or an artifact with its checksum. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sortednet_cli.errors import RequestError
from sortednet_cli.storage.artifact import MANIFEST, ArtifactFolder
from sortednet_cli.storage.calibration import FILE as CALIBRATION
from sortednet_cli.storage.calibration import check_calibration
from sortednet_cli.storage.checks import Checks, files_under
from sortednet_cli.storage.lock import HOLDER, LOCK
from sortednet_cli.storage.run import RunFolder


@dataclass
class Inspection:
    """What was found; nothing of it is damaged.

    Attributes:
        files: that are what they were when they were written.
        num_bytes: that these hold.
        unexpected: files of the folder that nothing vouches for.
        finished: False for a run of which only the newest checkpoint could be looked at.
    """

    path: Path
    kind: str
    files: list[Path] = field(default_factory=list)
    num_bytes: int = 0
    unexpected: list[str] = field(default_factory=list)
    finished: bool = True


def inspect(path: Path) -> Inspection:
    """Read every file of a run or an artifact and compare it with its checksum.

    Raises:
        RequestError: names each file that is damaged or missing; or the folder is neither, or of
            format 1, which has no checksums.
    """
    found = Inspection(path, "artifact" if ArtifactFolder.is_one(path) else "run")
    problems = list(_artifact(found) if found.kind == "artifact" else _run(found))
    if problems:
        raise RequestError("; ".join(problems))
    known = set(found.files)
    trackers = RunFolder.open(path).spec().train.tracker_names if found.kind == "run" else ()
    for file in files_under(path, [LOCK, HOLDER, *trackers]):
        if file not in known:
            found.unexpected.append(file.relative_to(path).as_posix())
    found.num_bytes = sum(file.stat().st_size for file in found.files)
    return found


def _artifact(found: Inspection) -> Iterator[str]:
    folder = ArtifactFolder.open(found.path)
    yield from _listed(found, Checks(found.path / MANIFEST, folder.manifest().files))
    yield from _calibration(found)


def _run(found: Inspection) -> Iterator[str]:
    run = RunFolder.open(found.path)
    found.finished = run.finished
    if found.finished:
        yield from _listed(found, run.checks())
    yield from _calibration(found)
    try:
        newest = run.newest_checkpoint()
    except RequestError as error:
        yield str(error)
        return
    if newest is not None and newest[1].files is not None:
        yield from _listed(found, Checks(newest[0] / "counters.json", newest[1].files))
        found.files.append(run.pointer)


def _listed(found: Inspection, checks: Checks) -> Iterator[str]:
    """Compare what a manifest names, and yield what is wrong."""
    if checks.files is None:
        raise RequestError(
            f"{found.path} carries no checksums: it is of format 1, which had none. It can be"
            " used as ever; what is trained or cut anew has them"
        )
    found.files.append(checks.manifest)
    for name in checks.files:
        file = checks.manifest.parent / name
        try:
            problem = checks.problem(file)
        except RequestError as error:
            yield str(error)
            continue
        if problem is None:
            found.files.append(file)
        else:
            yield f"{file} {problem}"


def _calibration(found: Inspection) -> Iterator[str]:
    try:
        if check_calibration(found.path):
            found.files.append(found.path / CALIBRATION)
    except RequestError as error:
        yield str(error)
