"""torchvision's ResNet-50, 101 and 152."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, cast

from pydantic import Field
from torch import Tensor, nn

from sortednet_cli.families.base import StagedFamily, width_of
from sortednet_cli.families.root import Config, Root, entry, scaled
from sortednet_cli.families.shared import Step
from sortednet_cli.families.torchvision.card import IMPORTS, LOAD
from sortednet_cli.space import SubModel

_FOUR_COUNTS = Annotated[list[int], Field(min_length=4, max_length=4)]


class ResNetFamily(StagedFamily):
    """ResNet-50, 101 and 152: width scales `width_per_group`, depth cuts `layers`.

    The channels of the residual stream stay, because the stock class fixes them.
    """

    classifier = "fc"
    loader = "torchvision.models.ResNet"
    card = (
        f"{IMPORTS}from torchvision.models.resnet import Bottleneck, ResNet\n\n"
        'model = ResNet(Bottleneck, **json.load(open("config.json")))\n' + LOAD
    )

    _LAYERS = {  # noqa: RUF012
        "resnet50": [3, 4, 6, 3],
        "resnet101": [3, 4, 23, 3],
        "resnet152": [3, 8, 36, 3],
    }

    refusals = (*StagedFamily.refusals, KeyError)

    def __init__(self, root: Root) -> None:
        defaults = {"layers": self._LAYERS[root.family], "width_per_group": 64}
        config = {**defaults, **root.config}
        entry(config, "layers", _FOUR_COUNTS)
        entry(config, "width_per_group", int)
        super().__init__(replace(root, config=config))

    @property
    def stages(self) -> Sequence[int]:
        return cast(Sequence[int], self.root.config["layers"])

    def construct(self, config: Config) -> nn.Module:
        from torchvision.models.resnet import Bottleneck, ResNet

        return cast(nn.Module, ResNet(Bottleneck, **config))

    def shrink(self, submodel: SubModel) -> Config:
        config = dict(self.root.config)
        config["width_per_group"] = scaled(config["width_per_group"], width_of(submodel))
        config["layers"] = list(self.kept(submodel))
        return config

    def module_map(self, submodel: SubModel) -> dict[str, str | None]:
        return {path: path for path in ("conv1", "bn1", *self._blocks(submodel), "fc")}

    def steps(self, submodel: SubModel, module: Any) -> list[Step]:
        stem = Step("stem", (module.conv1, module.bn1, module.relu, module.maxpool))
        paths = self._blocks(submodel)
        return [stem, *(Step(path, (module.get_submodule(path),)) for path in paths)]

    def branch_end(self, block: Any) -> Tensor | None:
        # The final ReLU keeps the input, which the ReLU of the previous block made non-negative.
        if not hasattr(block, "bn3") or block.downsample is not None:
            return None
        return cast(Tensor, block.bn3.weight)

    def tail(self, module: Any, states: Tensor) -> Tensor:
        return cast(Tensor, module.fc(module.avgpool(states).flatten(1)))

    def _blocks(self, submodel: SubModel) -> list[str]:
        kept = enumerate(self.kept(submodel), start=1)
        return [f"layer{stage}.{block}" for stage, count in kept for block in range(count)]
