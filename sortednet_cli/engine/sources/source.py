"""What sub-models are cut out of: what a run, an artifact and a stock checkpoint share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch

from sortednet_cli.data import Dataset, InputFormat, open_data
from sortednet_cli.engine.sources.root import read_family, read_format, task_of
from sortednet_cli.engine.sources.table import Metrics, Row
from sortednet_cli.families import Config, Family
from sortednet_cli.families.transformers.stock_configs import generation_config
from sortednet_cli.nesting import (
    NestedNetwork,
    SlicePlan,
    cost_of,
)
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import AnyDataSpec
from sortednet_cli.storage.checks import Checks
from sortednet_cli.storage.sources import (
    StoredSource,
    data_at,
)
from sortednet_cli.storage.tensors import TensorFiles, open_tensors
from sortednet_cli.tasks import Task


@dataclass(frozen=True)
class Source(ABC):
    """What a run and an artifact have in common.

    Attributes:
        path: the folder.
        name: the run's name, for people and file names.
        family: rules of the root network.
        space: the sub-models that can be cut out of it.
        format: what the model must know of its inputs.
        data: where its data came from.
        rows: the stored table of sub-models.
        checks: checksums of its files, where it has them.
        channels_last: whether it was trained in that memory format.
    """

    path: Path
    name: str
    family: Family
    space: SearchSpace
    format: InputFormat
    data: AnyDataSpec
    rows: Mapping[SubModel, Row] = field(repr=False)
    checks: Checks | None = field(default=None, repr=False, compare=False)
    channels_last: bool = False

    @classmethod
    def of(cls, stored: StoredSource, allowed: Collection[str] = ()) -> Self:
        """Open what was read of a run or an artifact.

        Raises:
            RequestError: its network cannot be built, or its factory is not allowed.
        """
        manifest, space = stored.manifest, stored.space
        assert manifest is not None and space is not None
        rows = [Row.read(row) for row in stored.rows]
        return cls(
            path=stored.path,
            name=stored.name,
            family=read_family(manifest, stored.path, allowed),
            space=space,
            format=read_format(manifest.data),
            data=stored.data,
            rows={row.submodel: row for row in rows},
            checks=stored.checks,
            channels_last=stored.channels_last,
        )

    def verify_weights(self) -> None:
        """RequestError if a bit of the weights is another one than was written."""
        if self.checks is not None:
            self.checks.verify(*self.weight_files)

    @property
    @abstractmethod
    def weight_files(self) -> tuple[Path, ...]:
        """The safetensors files that hold the weights together."""

    @contextmanager
    def open_weights(self) -> Iterator[TensorFiles]:
        """Open `weight_files`, their tensors by the names that `plan` gives them."""
        with open_tensors(*self.weight_files) as files:
            yield files

    @abstractmethod
    def plan(self, submodel: SubModel) -> SlicePlan:
        """Plan a sub-model as slices of the tensors of `open_weights`."""

    @abstractmethod
    def network(
        self, device: torch.device | str = "cpu", *, channels_last: bool = False
    ) -> NestedNetwork:
        """Load the weights as a nested network, its sub-models in eval mode by statistics."""

    @property
    def measures_statistics(self) -> bool:
        """Whether smaller sub-models have normalisation statistics still to be measured."""
        return True

    @property
    def stem(self) -> str:
        """What the names of artifacts cut from it begin with."""
        return self.name

    @property
    def task(self) -> Task:
        return task_of(self.format)

    @property
    @abstractmethod
    def tokenizer(self) -> Path:
        """The folder with its tokenizer, where its inputs are texts."""

    @property
    def generation(self) -> Config:
        """What a causal model generates by, as `generation_config.json` says it."""
        return generation_config(self.tokenizer, self.family.root.config)

    def row(self, submodel: SubModel, metrics: Mapping[str, Metrics]) -> Row:
        """A row with new metrics; its costs are taken from the table or counted."""
        known = self.rows.get(submodel)
        if known is not None:
            return replace(known, metrics=metrics)
        cost = cost_of(self.family, submodel, self.format.random_inputs, self.format.num_units)
        return Row(submodel, cost.params, cost.macs, metrics)

    def open_data(self, path: str | None = None) -> Dataset:
        """Open the data that scores it: `path`, or where the run's data was."""
        data = data_at(self.data, path)
        return open_data(data, self.format.task, known=self.format, tokenizer=self.tokenizer)
