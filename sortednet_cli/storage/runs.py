"""Find the run that a command works on, when the user names none."""

from __future__ import annotations

import re
from pathlib import Path

from sortednet_cli.errors import RequestError
from sortednet_cli.storage.run import RunFolder

RUNS = Path("runs")

_ILLEGAL_NAME = re.compile(
    r"""(con|prn|aux|nul|(com|lpt)[0-9\u00b9\u00b2\u00b3])\ *(\..*)? # devices of Windows
    | .*[<>:"|?*].*
    | .*[.\ ]""",
    re.IGNORECASE | re.VERBOSE,
)
"""Names that Windows allows for no folder. Linux and macOS refuse fewer."""


def default_run_path(name: str) -> Path:
    """Return the folder of a run with that name, used when the user gives no `--out`.

    Raises:
        RequestError: some operating system allows no folder of that name.
    """
    if _ILLEGAL_NAME.fullmatch(name):
        raise RequestError(
            f"name: {name!r} is not a legal folder name on every system: it must not contain"
            ' < > : " | ? *, end with a dot or space, or be a Windows device (CON, NUL,'
            " COM1, ...); give --out, or --set name=NAME"
        )
    return RUNS / name


def newest_run(*, finished: bool) -> RunFolder:
    """Find the newest finished (or newest unfinished) run under `runs/`.

    Raises:
        RequestError: there is none.
    """
    candidates = []
    for file in RUNS.glob("*/run.json"):
        try:
            manifest = RunFolder(file.parent).manifest()
        except RequestError:
            continue  # Opening a damaged run by its name says what is wrong with it.
        if (manifest.state == "finished") == finished:
            candidates.append((manifest.finished or manifest.created, file.parent))
    if not candidates:
        kind = "finished" if finished else "unfinished"
        hint = "; train one with: sortednet train --preset digits-resnet" if finished else ""
        raise RequestError(f"no {kind} run under {RUNS}/{hint}")
    return RunFolder.open(max(candidates)[1])


def unfinished_run(path: Path | None) -> RunFolder:
    """Open the run to resume: the one at `path`, or the newest unfinished one.

    Raises:
        RequestError: there is none, or it is finished.
    """
    folder = newest_run(finished=False) if path is None else RunFolder.open(path)
    folder.require_unfinished()
    return folder
