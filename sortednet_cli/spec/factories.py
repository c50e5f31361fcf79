"""The check that a user allows a custom model's factory to run."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Collection
from pathlib import Path

from sortednet_cli.errors import RequestError


def missing_module(factory: str) -> str:
    """What to do about a factory whose package is not there; empty if it is. Runs none of it."""
    module, _, name = factory.partition(":")
    package = module.partition(".")[0]
    folder = str(Path.cwd())
    sys.path.insert(0, folder)  # where factories are looked for first
    try:
        if module == f"{package}.py" and Path(module).is_file():
            return f": write {package}:{name}, without .py"
        if package in sys.modules or importlib.util.find_spec(package) is not None:
            return ""
    finally:
        sys.path.remove(folder)
    return f": start the command in the folder that holds {package}, or install it"


ALLOW_VARIABLE = "SORTEDNET_ALLOW_FACTORY"
"""Environment variable that lists allowed factories, separated by commas."""


def check_allowed(factory: str, allowed: Collection[str]) -> None:
    """RequestError unless a factory is in `allowed`, or in the environment variable's list."""
    if factory not in {*allowed, *os.environ.get(ALLOW_VARIABLE, "").split(",")}:
        raise RequestError(
            f"this model is built by the code of {factory!r}, which runs only if you allow it:"
            f" pass --allow-factory {factory} or set {ALLOW_VARIABLE}={factory}"
        )
