"""Latency that another device measured with a bench pack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sortednet_cli.engine.evaluation.costs.base import Conditions
from sortednet_cli.engine.evaluation.costs.latency_ms import LatencyMs
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.logs import logger
from sortednet_cli.storage.latencies import read_latencies
from sortednet_cli.storage.sources import StoredSource

if TYPE_CHECKING:
    from sortednet_cli.engine.sources.source import Source


class DeviceLatency(LatencyMs):
    """Latencies in a file. They are known from the start: nothing is measured here.

    Raises:
        RequestError: the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = read_latencies(path)

    @property
    def axis_label(self) -> str:
        known = self._file.conditions
        return f"latency on {known.device}, ms (batch size {known.batch_size})"

    def of(self, row: Row) -> float | None:
        return self._file.latency_ms.get(row.submodel.name)

    def is_in(self, row: Row) -> bool:
        return self.name in row.costs

    def get(
        self, rows: Sequence[Row], opened: Callable[[], Source], device: str
    ) -> Iterator[float]:
        return iter([self.value(row) for row in rows])

    def conditions(self, device: str) -> Conditions:
        return self._file.conditions.model_dump()

    def check(self, stored: StoredSource) -> None:
        self._file.check(stored, self._path)

    def warn_unless_of(self, file_format: str) -> None:
        """Warn if the device timed files of another format."""
        timed = self._file.conditions.file_format
        if timed != file_format:
            logger.warning(
                "%s holds times of %s files, which say nothing about the %s file that is written",
                *(self._path, timed, file_format),
            )
