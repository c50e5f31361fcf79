"""Presets as text: those of the package, and those that other packages add."""

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
    """List all presets."""
    return sorted(_files())


def text(name: str) -> str:
    """Return a preset's TOML, comments included; RequestError if there is none."""
    files = _files()
    if name not in files:
        close = difflib.get_close_matches(name, files, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise RequestError(f"unknown preset {name!r}{hint}; presets: {listed(names())}")
    return files[name].read_text(encoding="utf-8")


def _files() -> dict[str, Traversable]:
    """The file of each preset by its name; RequestError if two packages have one of a name."""
    found: dict[str, Traversable] = {}
    for folder in _folders():
        for file in folder.iterdir():
            if not file.name.endswith(_SUFFIX):
                continue
            name = file.name.removesuffix(_SUFFIX)
            if name in found:
                raise RequestError(f"two presets are named {name!r}: {found[name]} and {file}")
            found[name] = file
    return found


def _folders() -> Iterator[Traversable]:
    yield _own_folder()
    for point in added(PRESETS).values():
        try:
            yield resources.files(point.value)
        except (ImportError, TypeError) as error:
            raise RequestError(
                f"{PRESETS}: {point.name!r} names no package that can be imported:"
                f" {point.value}: {reason_of(error)}"
            ) from error


def _own_folder() -> Traversable:
    """The package's own presets: beside its modules in a wheel, beside the package in a checkout.

    The build puts the repository's top-level `presets/` into the wheel.
    """
    package = resources.files("sortednet_cli")
    if (folder := package / "presets").is_dir():
        return folder
    return Path(str(package)).parent / "presets"
