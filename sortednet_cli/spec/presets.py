"""The texts of presets, of this package and of others."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import chain
from pathlib import Path

from sortednet_cli.errors import RequestError, listed, reason_of, suggestion
from sortednet_cli.extensions import PRESETS, added, told, warn_once

_SUFFIX = ".toml"


def names() -> list[str]:
    """List the names of all presets."""
    return sorted(_files())


def text(name: str) -> str:
    """Return a preset's TOML with its comments; RequestError if there is no such preset."""
    files = _files()
    if name not in files:
        hint = suggestion(name, files)
        raise RequestError(f"unknown preset {name!r}{hint}; presets: {listed(names())}")
    return files[name].read_text(encoding="utf-8")


def about(name: str) -> str:
    """The first comment line of a preset, which says what it is."""
    first = text(name).partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""


def _files() -> dict[str, Traversable]:
    """Map names of presets to their files; of two presets with one name, take the first."""
    files: dict[str, Traversable] = {}
    for folder in _folders():
        for file in sorted(folder.iterdir(), key=lambda file: file.name):
            name = file.name.removesuffix(_SUFFIX)
            if name in files:
                warn_once(f"two presets are named {name!r}: {files[name]} is used, not {file}")
            elif file.name.endswith(_SUFFIX):
                files[name] = file
    return files


def _folders() -> Iterator[Traversable]:
    """This package's folder, then those of others; one that cannot be read is left out."""
    yield _own_folder()
    for point in chain(*added(PRESETS).values()):
        try:
            folder = resources.files(point.value)
            next(iter(folder.iterdir()), None)
        except (Exception, SystemExit) as error:
            warn_once(
                f"{told(point)} is no package of presets that can be imported:"
                f" {reason_of(error)}; it is left out"
            )
        else:
            yield folder


def _own_folder() -> Traversable:
    """Return the folder of this package's presets.

    It is in the package in a wheel, into which the build copies the repository's top-level
    `presets/`, and beside the package in a checkout.
    """
    package = resources.files("sortednet_cli")
    if (folder := package / "presets").is_dir():
        return folder
    return Path(str(package)).parent / "presets"
