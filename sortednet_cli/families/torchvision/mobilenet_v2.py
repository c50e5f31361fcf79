"""torchvision's MobileNetV2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, cast

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from sortednet_cli.errors import RequestError
from sortednet_cli.families.base import StagedFamily, width_of
from sortednet_cli.families.root import Config, Root, entry
from sortednet_cli.families.shared import Step
from sortednet_cli.families.torchvision.card import IMPORTS, LOAD
from sortednet_cli.space import SubModel

_SETTING = "inverted_residual_setting"

# (expansion t, channels c, blocks n, stride s), table 2 of arXiv 1801.04381.
_MOBILENET_V2_ROWS = [
    [1, 16, 1, 1],
    [6, 24, 2, 2],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
]

_Row = Annotated[list[float], Field(min_length=4, max_length=4)]
_ROWS = Annotated[list[_Row], Field(min_length=1)]


class MobileNetV2Family(StagedFamily):
    """Width is `width_mult`; depth cuts the repeats n of `inverted_residual_setting`."""

    classifier = "classifier"
    loader = "torchvision.models.MobileNetV2"
    card = (
        f"{IMPORTS}from torchvision.models import MobileNetV2\n\n"
        'model = MobileNetV2(**json.load(open("config.json")))\n' + LOAD
    )

    refusals = (*StagedFamily.refusals, KeyError)

    def __init__(self, root: Root) -> None:
        defaults = {"width_mult": 1.0, _SETTING: _MOBILENET_V2_ROWS}
        config = {**defaults, **root.config}
        entry(config, "width_mult", float)
        for _, _, count, _ in entry(config, _SETTING, _ROWS):
            if type(count) is not int:
                raise RequestError(f"model.config.{_SETTING}: {count!r} is not a number of blocks")
        super().__init__(replace(root, config=config))

    @property
    def stages(self) -> Sequence[int]:
        return [row[2] for row in self.root.config[_SETTING]]

    def construct(self, config: Config) -> nn.Module:
        from torchvision.models import MobileNetV2

        return cast(nn.Module, MobileNetV2(**config))

    def shrink(self, submodel: SubModel) -> Config:
        config = dict(self.root.config)
        config["width_mult"] = config["width_mult"] * width_of(submodel)
        config[_SETTING] = [
            [t, c, count, s]
            for (t, c, _, s), count in zip(config[_SETTING], self.kept(submodel), strict=True)
        ]
        return config

    def module_map(self, submodel: SubModel) -> dict[str, str | None]:
        # `features` is one flat list: stem, blocks of all stages, last convolution. Removing
        # blocks shifts the index of everything after them.
        mapping: dict[str, str | None] = {"features.0": "features.0"}
        own, root = 1, 1
        for count, full in zip(self.kept(submodel), self.stages, strict=True):
            for block in range(count):
                mapping[f"features.{own + block}"] = f"features.{root + block}"
            own, root = own + count, root + full
        mapping[f"features.{own}"] = f"features.{root}"
        mapping["classifier"] = "classifier"
        return mapping

    def steps(self, submodel: SubModel, module: nn.Module) -> list[Step]:
        paths = list(self.module_map(submodel).items())[:-1]
        return [Step(str(root), (module.get_submodule(path),)) for path, root in paths]

    def branch_end(self, block: Any) -> Tensor | None:
        if not getattr(block, "use_res_connect", False):
            return None
        return cast(Tensor, block.conv[-1].weight)

    def tail(self, module: Any, states: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(states, (1, 1)).flatten(1)
        return cast(Tensor, module.classifier(pooled))
