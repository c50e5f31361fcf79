"""Measured latencies for the commands that choose by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sortednet_cli.cli.render import Progress
from sortednet_cli.logs import logger

if TYPE_CHECKING:
    from sortednet_cli.engine.sources.source import Source
    from sortednet_cli.engine.sources.table import Row

Conditions = dict[str, int | str]
"""What a latency is quoted with; empty where none was measured."""


def time_rows(
    source: Source, rows: list[Row], device: str, quiet: bool
) -> tuple[list[Row], Conditions]:
    """Measure the latency of every row on a device, and say under what conditions."""
    from sortednet_cli.engine.evaluation.latency import describe, measure_rows
    from sortednet_cli.machine.device import choose_device

    timed, place = [], choose_device(device)
    with Progress(quiet) as talk:
        for row in measure_rows(source, rows, place):
            timed.append(row)
            talk.update("time", len(timed), len(rows), row.submodel.name)
    found = describe(place)
    conditions = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in found.items())
    logger.info("latency: median of one forward pass; %s", conditions)
    return timed, found
