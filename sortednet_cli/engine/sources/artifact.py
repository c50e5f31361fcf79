"""An opened artifact."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sortednet_cli.engine.sources.source import Source
from sortednet_cli.engine.sources.weights import check_weights, read_weights
from sortednet_cli.machine.device import move_to
from sortednet_cli.nesting import NestedNetwork, SlicePlan, plan_between
from sortednet_cli.space import SubModel
from sortednet_cli.storage.artifact import ArtifactFolder


class ArtifactSource(Source):
    """An opened artifact: a standalone sub-model, out of which smaller ones can be cut again."""

    @property
    def weight_files(self) -> tuple[Path, ...]:
        return ArtifactFolder(self.path).weight_files

    @property
    def tokenizer(self) -> Path:
        return self.path

    @property
    def submodel(self) -> SubModel:
        return self.space.largest

    def plan(self, submodel: SubModel) -> SlicePlan:
        return plan_between(self.family, self.submodel, submodel)

    def module(self) -> nn.Module:
        """Load the standalone module, in eval mode.

        Raises:
            RequestError: the weights are damaged.
        """
        config = self.family.shrink(self.submodel)
        self.verify_weights()
        check_weights(self.family, config, self.weight_files)
        module = self.family.build(config)
        module.load_state_dict(read_weights(module, self.weight_files), strict=False)
        return module.eval()

    def network(
        self, device: torch.device | str = "cpu", *, channels_last: bool = False
    ) -> NestedNetwork:
        module = move_to(self.module(), torch.device(device), channels_last)
        stored = {self.submodel.name: dict(module.named_buffers())}
        return NestedNetwork(self.family, self.space, module, stored, outer=self.submodel)
