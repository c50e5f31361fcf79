"""Latency in torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sortednet_cli.engine.evaluation.costs.base import Conditions, Cost, Effort
from sortednet_cli.space import SubModel
from sortednet_cli.storage.sources import StoredSource

if TYPE_CHECKING:
    from sortednet_cli.engine.sources.source import Source


class LatencyMs(Cost):
    """Median time of a forward pass of the standalone sub-model, at batch size 1.

    Subclasses measure it elsewhere. One command uses one of them, so that latencies of different
    runtimes or devices never meet in one table.
    """

    name = "latency_ms"
    unit = "ms"
    units = "milliseconds"
    label = "latency, ms (batch size 1)"
    help = "Budget in milliseconds: the median of a forward pass, batch size 1."
    effort = Effort.MEASURED

    def values(self, source: Source, submodels: Sequence[SubModel], device: str) -> Iterator[float]:
        from sortednet_cli.engine.evaluation.latency import latency_ms
        from sortednet_cli.machine.device import choose_device

        network = source.network(choose_device(device))
        for submodel in submodels:
            yield latency_ms(network, submodel, source.format)

    def conditions(self, device: str) -> Conditions:
        from sortednet_cli.engine.evaluation.latency import describe
        from sortednet_cli.machine.device import choose_device

        return describe(choose_device(device))

    def check(self, stored: StoredSource) -> None:
        """RequestError if the latencies of a source cannot be got. No torch."""

    def check_device(self, device: str) -> None:
        """RequestError if latencies cannot be measured on a device, as `--device` names it."""
