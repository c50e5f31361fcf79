"""The texts of presets, of this package and of others."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from sortednet_cli.errors import RequestError, listed, reason_of
from sortednet_cli.extensions import PRESETS, added

_SUFFIX = ".toml"


def names() -> list[str]:
    """List the names of all presets."""
    return sorted(_files())


def text(name: str) -> str:
    """Return a preset's TOML with its comments; RequestError if there is no such preset."""
    files = _files()
    if name not in files:
        close = difflib.get_close_matches(name, files, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise RequestError(f"unknown preset {name!r}{hint}; presets: {listed(names())}")
    return files[name].read_text(encoding="utf-8")


def _files() -> dict[str, Traversable]:
    """Map names of presets to their files; RequestError if two presets have the same name."""
    files: dict[str, Traversable] = {}
    for folder in _folders():
        for file in folder.iterdir():
            if not file.name.endswith(_SUFFIX):
                continue
            name = file.name.removesuffix(_SUFFIX)
            if name in files:
                raise RequestError(f"two presets are named {name!r}: {files[name]} and {file}")
            files[name] = file
    return files


def _folders() -> Iterator[Traversable]:
    yield _own_folder()
    for point in added(PRESETS).values():
        try:
            yield resources.files(point.value)
        except (ImportError, TypeError) as error:
            raise RequestError(
                f"{PRESETS}: {point.name!r} names {point.value}, which cannot be imported:"
                f" {reason_of(error)}"
            ) from error


def _own_folder() -> Traversable:
    """Return the folder of this package's presets.

    It is in the package in a wheel, into which the build copies the repository's top-level
    `presets/`, and beside the package in a checkout.
    """
    package = resources.files("sortednet_cli")
    if (folder := package / "presets").is_dir():
        return folder
    return Path(str(package)).parent / "presets"
