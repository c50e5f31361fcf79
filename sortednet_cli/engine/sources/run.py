"""An opened run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from sortednet_cli.engine.sources.source import Source
from sortednet_cli.engine.sources.weights import check_weights, read_statistics, read_weights
from sortednet_cli.errors import RequestError
from sortednet_cli.machine.device import move_to
from sortednet_cli.nesting import (
    NestedNetwork,
    SlicePlan,
    build_skeleton,
    init_network,
    own_norms,
    plan_from_root,
)
from sortednet_cli.nesting.skeleton import statistic_names
from sortednet_cli.space import SubModel
from sortednet_cli.storage.run import RunFolder


class RunSource(Source):
    """An opened, finished run."""

    @property
    def stem(self) -> str:
        return self.path.name

    @property
    def measures_statistics(self) -> bool:
        return False

    @property
    def weight_files(self) -> tuple[Path, ...]:
        return (RunFolder(self.path).weights,)

    @property
    def tokenizer(self) -> Path:
        return RunFolder(self.path).tokenizer

    def plan(self, submodel: SubModel) -> SlicePlan:
        return plan_from_root(self.family, submodel)

    def network(
        self, device: torch.device | str = "cpu", *, channels_last: bool = False
    ) -> NestedNetwork:
        statistics = RunFolder(self.path).statistics
        self.verify_weights()
        if self.checks is not None:
            self.checks.verify(statistics)
        beside = {n: piece.shape for n, piece in own_norms(self.family).vectors.items()}
        check_weights(self.family, self.family.root.config, self.weight_files, beside)
        module = init_network(self.family, seed=0)
        weights = read_weights(module, self.weight_files, beside)
        stored = read_statistics(statistics, self._max_statistics_bytes())
        self._check_statistics(stored)
        move_to(module.eval(), torch.device(device), channels_last)
        network = NestedNetwork(self.family, self.space, module, stored)
        network.load(weights)
        return network

    def _max_statistics_bytes(self) -> int:
        """Bound the bytes of all sub-models' statistics by the largest sub-model's."""
        skeleton = build_skeleton(self.family, self.family.shrink(self.space.largest))
        buffers = dict(skeleton.named_buffers())
        return len(self.space) * sum(buffers[name].nbytes for name in statistic_names(skeleton))

    def _check_statistics(self, stored: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """RequestError if a sub-model has no statistics.

        Names and shapes are checked only for the smallest and the largest sub-model.
        """
        for submodel in (self.space.smallest, self.space.largest):
            skeleton = build_skeleton(self.family, self.family.shrink(submodel))
            buffers = dict(skeleton.named_buffers())
            expected = {name: buffers[name].shape for name in statistic_names(skeleton)}
            actual = {name: t.shape for name, t in stored.get(submodel.name, {}).items()}
            names = {s.name for s in self.space.submodels} if expected else set()
            if actual != expected or set(stored) != names:
                raise RequestError(
                    f"{RunFolder(self.path).statistics} does not belong here:"
                    " it does not hold the normalisation statistics of every sub-model"
                )
