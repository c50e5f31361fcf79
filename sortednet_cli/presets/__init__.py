"""The presets that travel with the package, as text: listing them imports nothing else."""

from __future__ import annotations

import difflib
from importlib import resources

from sortednet_cli.errors import RequestError, listed


def names() -> list[str]:
    """List the presets that travel with the package."""
    folder = resources.files("sortednet_cli") / "presets"
    files = (entry.name for entry in folder.iterdir())
    return sorted(file.removesuffix(".toml") for file in files if file.endswith(".toml"))


def text(name: str) -> str:
    """Return a preset's TOML, comments included; RequestError if there is none."""
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise RequestError(f"unknown preset {name!r}{hint}; presets: {listed(names())}")
    file = resources.files("sortednet_cli") / "presets" / f"{name}.toml"
    return file.read_text(encoding="utf-8")
