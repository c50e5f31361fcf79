"""Install another package, which extends this one, for as long as a test runs.

    points = {"sortednet.rules": {"ends": "toy:Ends"}}
    with installed(tmp_path, {"toy.py": SOURCE}, points) as files:
        assert files == ["toy.py"]
        done = command("train", *TINY, "--set=train.rule=ends")

It is a distribution as pip lays it out: modules, and a `.dist-info` with `entry_points.txt`. So
`importlib.metadata` finds it, in this process and in fresh ones (`fresh=True` of `tests.commands`).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from sortednet_cli import extensions


@contextmanager
def installed(
    folder: Path,
    files: Mapping[str, str],
    points: Mapping[str, Mapping[str, str]],
    name: str = "toy",
) -> Iterator[list[str]]:
    """Install a distribution, give the list of its own files, and take it away again.

    Args:
        folder: the folder to install it into.
        files: the text of each file by its path.
        points: what each entry-point group holds: names with `module:object`.
        name: of the distribution; two at once need two names.
    """
    place = folder / f"site-{name}"
    for path, text in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)
    _describe(place / f"{name}-1.0.dist-info", name, points)
    paths = os.pathsep.join([str(place), *filter(None, [os.environ.get("PYTHONPATH")])])
    before = set(sys.modules)
    with (
        mock.patch.dict(os.environ, PYTHONPATH=paths),
        mock.patch.object(sys, "path", [str(place), *sys.path]),
    ):
        _forget()
        try:
            yield sorted(files)
        finally:
            own = {Path(path).parts[0].removesuffix(".py") for path in files}
            for module in set(sys.modules) - before:
                if module.partition(".")[0] in own:
                    del sys.modules[module]
    _forget()


def _describe(folder: Path, name: str, points: Mapping[str, Mapping[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [
        line
        for group, added in points.items()
        for line in (f"[{group}]", *(f"{key} = {value}" for key, value in added.items()))
    ]
    (folder / "entry_points.txt").write_text("\n".join([*lines, ""]))


def _forget() -> None:
    """Read entry points again: what is installed has changed."""
    importlib.invalidate_caches()
    extensions.added.cache_clear()
    extensions.imported.clear()
