"""The folder of what can be made or downloaded again."""

from __future__ import annotations

import os
from pathlib import Path

from sortednet_cli.errors import WorkError, reason_of

VARIABLE = "SORTEDNET_CACHE"


def cache_folder() -> Path:
    """Return the folder, which `SORTEDNET_CACHE` overrides.

    Raises:
        WorkError: there is none, as in a container whose user has no home folder.
    """
    try:
        if chosen := os.environ.get(VARIABLE):
            return Path(chosen).expanduser()
        import platformdirs

        return Path(platformdirs.user_cache_dir("sortednet"))
    except RuntimeError as error:
        raise WorkError(f"there is no cache folder: {reason_of(error)}; set {VARIABLE}") from error
