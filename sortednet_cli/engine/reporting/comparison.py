"""Which runs one page may show together. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from sortednet_cli.engine.evaluation.budget import check_selection
from sortednet_cli.errors import RequestError, listed
from sortednet_cli.storage.sources import StoredSource

_UNSCORED = {"augment", "crop_padding", "flip", "storage", "workers"}
"""Keys of a data spec that change no score of a trained network."""


def check_comparable(sources: Sequence[StoredSource]) -> None:
    """Check that sources can share a page.

    Raises:
        RequestError: one has no scores, two are the same folder, or their metrics differ.
    """
    seen = set()
    for stored in sources:
        check_selection(stored, None)
        if stored.path.resolve() in seen:
            raise RequestError(f"{stored.path} is given twice")
        seen.add(stored.path.resolve())
    if len({stored.measure for stored in sources}) > 1:
        metrics = listed(f"{stored.path} ({stored.measure.metric})" for stored in sources)
        raise RequestError(f"runs of different metrics need a report each: {metrics}")


def share_data(sources: Sequence[StoredSource]) -> bool:
    """Whether all sources were scored on the same data, as far as their specs tell."""
    parts = [stored.data.model_dump(exclude=_UNSCORED) for stored in sources]
    return all(part == parts[0] for part in parts)
