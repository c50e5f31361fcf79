"""The check that a user allows a custom model's factory to run."""

from __future__ import annotations

import os
from collections.abc import Collection

from sortednet_cli.errors import RequestError

ALLOW_VARIABLE = "SORTEDNET_ALLOW_FACTORY"
"""Environment variable that lists allowed factories, separated by commas."""


def check_allowed(factory: str, allowed: Collection[str]) -> None:
    """RequestError unless a factory is in `allowed`, or in the environment variable's list."""
    if factory not in {*allowed, *os.environ.get(ALLOW_VARIABLE, "").split(",")}:
        raise RequestError(
            f"this model is built by the code of {factory!r}, which runs only if you allow it:"
            f" pass --allow-factory {factory} or set {ALLOW_VARIABLE}={factory}"
        )
