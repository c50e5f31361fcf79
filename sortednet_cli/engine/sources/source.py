"""The base class of everything that sub-models can be cut out of."""

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
    """An opened run, artifact or stock checkpoint.

    Attributes:
        path: its folder.
        name: the run's name, for people and file names.
        family: the family of the root network.
        space: the sub-models that can be cut out of it.
        format: the format of the model's inputs.
        data: where its data came from.
        rows: the stored costs and scores of sub-models.
        checks: checksums of its files, if it has any.
        channels_last: whether it was trained in the memory format `channels_last`.
        base_model: name on the hub of the model that its weights began from, if there is one.
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
    base_model: str | None = None

    @classmethod
    def of(cls, stored: StoredSource, allowed: Collection[str] = ()) -> Self:
        """Open a run or an artifact whose manifest was read already.

        Args:
            allowed: factories that may run, as `MODULE:NAME`.

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
            base_model=manifest.base_model,
        )

    def verify_weights(self) -> None:
        """RequestError if a weight file has another checksum than when it was written."""
        if self.checks is not None:
            self.checks.verify(*self.weight_files)

    @property
    @abstractmethod
    def weight_files(self) -> tuple[Path, ...]:
        """The safetensors files that hold the weights."""

    @contextmanager
    def open_weights(self) -> Iterator[TensorFiles]:
        """Open `weight_files`; their tensors have the names that `plan` uses."""
        with open_tensors(*self.weight_files) as files:
            yield files

    @abstractmethod
    def plan(self, submodel: SubModel) -> SlicePlan:
        """Make the slice plan of a sub-model, which slices the tensors of `open_weights`."""

    @abstractmethod
    def network(
        self, device: torch.device | str = "cpu", *, channels_last: bool = False
    ) -> NestedNetwork:
        """Load the weights as a nested network whose sub-models are in eval mode.

        Raises:
            RequestError: the weights are damaged.
        """

    @property
    def measures_statistics(self) -> bool:
        """Whether smaller sub-models' normalisation statistics are not stored but measured."""
        return True

    @property
    def stem(self) -> str:
        """The prefix of default names of artifacts cut from it."""
        return self.name

    @property
    def task(self) -> Task:
        """The task of the model."""
        return task_of(self.format)

    @property
    @abstractmethod
    def tokenizer(self) -> Path:
        """The folder with its tokenizer, if its inputs are texts."""

    @property
    def generation(self) -> Config:
        """The generation settings of a causal model, as in `generation_config.json`."""
        return generation_config(self.tokenizer, self.family.root.config)

    def row(self, submodel: SubModel, metrics: Mapping[str, Metrics]) -> Row:
        """Make a row with new metrics; its costs come from the stored table, or are counted."""
        known = self.rows.get(submodel)
        if known is not None:
            return replace(known, metrics=metrics)
        cost = cost_of(self.family, submodel, self.format.random_inputs, self.format.num_units)
        return Row(submodel, cost.params, cost.macs, metrics)

    def open_data(self, path: str | None = None) -> Dataset:
        """Open the data to score on: at `path`, or where the run's own data was.

        Raises:
            RequestError: there is no such data, or it does not have the model's input format.
        """
        data = data_at(self.data, path)
        return open_data(data, self.format.task, known=self.format, tokenizer=self.tokenizer)
