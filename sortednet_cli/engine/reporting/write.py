"""The report of runs that can be compared, written as one page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sortednet_cli.engine.evaluation.costs import Cost, computed_costs
from sortednet_cli.engine.reporting.document import make_document
from sortednet_cli.engine.reporting.page import write_page
from sortednet_cli.engine.requests import Progress, no_progress
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.storage.sources import StoredSource

if TYPE_CHECKING:
    from sortednet_cli.engine.sources.source import Source


def write_report(
    sources: Sequence[tuple[StoredSource, Callable[[], Source]]],
    out: Path,
    further: Sequence[Cost] = (),
    device: str = "auto",
    progress: Progress = no_progress,
    measured: Sequence[Row] = (),
) -> None:
    """Write the page; WorkError if that fails.

    Args:
        sources: each run with the function that opens it.
        further: costs to show besides those that need no forward pass.
        device: device on which costs are measured, as `--device` takes it.
        measured: rows of the first run with costs that are not measured again.
    """
    named = {cost.name: cost for cost in (*computed_costs(), *further)}
    document = make_document(sources, list(named.values()), device, progress, measured)
    write_page(document, out)
