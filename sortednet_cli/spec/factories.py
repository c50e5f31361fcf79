"""Which factories of custom models may run: those that the user allows by name."""

from __future__ import annotations

import os
from collections.abc import Collection

from sortednet_cli.errors import RequestError

ALLOW_VARIABLE = "SORTEDNET_ALLOW_FACTORY"


def check_allowed(factory: str, allowed: Collection[str]) -> None:
    """RequestError unless a factory is `allowed`, or named by the environment (with commas)."""
    if factory not in {*allowed, *os.environ.get(ALLOW_VARIABLE, "").split(",")}:
        raise RequestError(
            f"this model is built by the code of {factory!r}, which is not run unless"
            f" you allow it by this name: pass --allow-factory {factory}"
            f" or set {ALLOW_VARIABLE}={factory}"
        )
