"""What formats with rounded weights share."""

from __future__ import annotations

from sortednet_cli.engine.export.formats.base import Exported


def measured(exported: Exported) -> str:
    """Say what the file scores beside the artifact."""
    assert exported.validation is not None
    scores, floats = exported.validation["file"], exported.validation["float"]
    pairs = (f"{name} {value:.4g} ({floats[name]:.4g} in floats)" for name, value in scores.items())
    return f"On validation data: {', '.join(pairs)}."
