"""Multiply-adds."""

from __future__ import annotations

from sortednet_cli.engine.evaluation.costs.base import CountCost
from sortednet_cli.engine.sources.table import Row


class Macs(CountCost):
    """Multiply-adds of one image, or of one token of a full sequence."""

    name = "macs"
    units = "multiply-adds"
    label = "multiply-adds (per image or token)"
    help = "Budget in multiply-adds per image or token: 200k, 3M, 1G."

    def of(self, row: Row) -> float:
        return row.macs
