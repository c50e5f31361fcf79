"""What a cost states of itself. No torch before a value is computed or measured."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar

from sortednet_cli.engine.sources.table import Row
from sortednet_cli.errors import RequestError
from sortednet_cli.space import SubModel, format_count, parse_count

if TYPE_CHECKING:
    from sortednet_cli.engine.sources.source import Source

Conditions = Mapping[str, int | str]
"""What a measured value must be quoted with: threads, device and the like."""


class Effort(IntEnum):
    """What it takes to get a cost, the least first."""

    STORED = 0
    """It follows from a row of the stored table."""
    COMPUTED = 1
    """It follows from the configuration: no data, no weights."""
    TRACED = 2
    """A forward pass without values: every operation is followed, no weights are."""
    MEASURED = 3
    """The sub-model runs on a device."""


class Cost(ABC):
    """What a sub-model costs: something that budgets bound and frontiers weigh against a score.

    A value is a number, and less of it is better. By default it has a unit and is read and shown
    as a decimal number.

    Attributes:
        name: as JSON and `--cost` call it. It ends in the unit: `latency_ms`.
        unit: short, such as `MB`; empty for a count.
        units: the same in words, for messages: `megabytes`.
        label: what the axis of a plot says.
        help: what `--help` says of the flag.
        effort: what it takes to get a value.
    """

    name: ClassVar[str]
    unit: ClassVar[str] = ""
    units: ClassVar[str]
    label: ClassVar[str]
    help: ClassVar[str]
    effort: ClassVar[Effort]

    @property
    def quantity(self) -> str:
        """The name without its unit, which `--cost` takes too: `latency`."""
        return self.name.removesuffix(f"_{self.unit.lower()}") if self.unit else self.name

    @property
    def title(self) -> str:
        """What the column of a table says."""
        return f"{self.quantity} {self.unit}".strip()

    @property
    def axis_label(self) -> str:
        """What the axis of a plot says of the values at hand."""
        return self.label

    @property
    def flag(self) -> str:
        """The option that bounds it."""
        return f"--max-{self.name.replace('_', '-')}"

    def read(self, text: str) -> float:
        """Read a bound as the command line gives it; RequestError unless it is positive."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise RequestError(f"{text!r} is not a positive number of {self.units}; write 2.5")
        return value

    def show(self, value: float) -> str:
        """Write a value without its unit, in four digits."""
        return f"{value:.4g}" if value < 1e4 else f"{value:.0f}"

    def of(self, row: Row) -> float | None:
        """A row's value; None where nobody has asked for it yet."""
        return row.costs.get(self.name)

    def is_in(self, row: Row) -> bool:
        """Whether a row holds the value already, or need not hold it."""
        return self.of(row) is not None

    def value(self, row: Row) -> float:
        """A row's value, where it is known."""
        value = self.of(row)
        assert value is not None, f"{self.name} of {row.submodel} is not known"
        return value

    @abstractmethod
    def values(self, source: Source, submodels: Sequence[SubModel], device: str) -> Iterator[float]:
        """Yield the value of each sub-model in order.

        Args:
            source: what they are cut out of.
            device: where to measure, as `--device` names it.
        """

    def get(
        self, rows: Sequence[Row], opened: Callable[[], Source], device: str
    ) -> Iterator[float]:
        """Yield the value of each row's sub-model in order; arguments as `values` takes them.

        Args:
            opened: opens the source, which imports torch.
        """
        return self.values(opened(), [row.submodel for row in rows], device)

    def conditions(self, device: str) -> Conditions:
        """What its values must be quoted with; nothing for those that are the same everywhere."""
        return {}


class CountCost(Cost):
    """A number of things, which the stored table holds for each sub-model: `50k`, `1.5M`."""

    effort = Effort.STORED

    def read(self, text: str) -> float:
        return parse_count(text)

    def show(self, value: float) -> str:
        return format_count(value)

    @abstractmethod
    def of(self, row: Row) -> float: ...

    def values(self, source: Source, submodels: Sequence[SubModel], device: str) -> Iterator[float]:
        for submodel in submodels:
            yield self.of(source.rows[submodel])


class ComputedCost(Cost):
    """A cost that follows from a sub-model's configuration alone."""

    effort = Effort.COMPUTED

    @abstractmethod
    def compute(self, source: Source, submodel: SubModel) -> float:
        """Compute the value of one sub-model."""

    def values(self, source: Source, submodels: Sequence[SubModel], device: str) -> Iterator[float]:
        for submodel in submodels:
            yield self.compute(source, submodel)
