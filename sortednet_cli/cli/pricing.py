"""Progress and conditions of costs, for the commands that choose by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sortednet_cli.cli.render import Progress
from sortednet_cli.logs import logger

if TYPE_CHECKING:
    from sortednet_cli.engine.evaluation.costs import Conditions, Cost
    from sortednet_cli.engine.evaluation.frontier import Report
    from sortednet_cli.engine.sources.table import Row


@contextmanager
def reporting(quiet: bool) -> Iterator[Report]:
    """Show the progress of costs while this is entered."""
    with Progress(quiet) as progress:

        def report(cost: Cost, done: int, total: int, row: Row) -> None:
            progress.update(cost.quantity, done, total, row.submodel.name)

        yield report


def tell_conditions(conditions: Mapping[str, Conditions]) -> None:
    """Say what measured costs must be quoted with."""
    for quantity, said in conditions.items():
        words = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in said.items())
        logger.info("%s: %s", quantity, words)
