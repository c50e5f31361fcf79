"""Where data lie that a spec or a command line names."""

from __future__ import annotations

from pathlib import Path

from sortednet_cli.errors import RequestError, reason_of


def data_path(text: str) -> Path:
    """The whole path of data; RequestError for one that no file can have."""
    try:
        path = Path(text).expanduser().resolve()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or reason_of(error)
        raise RequestError(f"data.path: {text!r} cannot be opened: {reason}") from error
    return path
