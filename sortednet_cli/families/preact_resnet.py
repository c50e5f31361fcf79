"""The pre-activation residual network for small images (He et al. 2016, arXiv 1603.05027).

No stock library has this model. In the literature `cPreResNet20` has either nine basic blocks
(He et al.) or six bottleneck blocks (the slimmable-network comparisons).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, cast

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from sortednet_cli.families.base import StagedFamily, width_of
from sortednet_cli.families.root import Config, Root, entry, scaled
from sortednet_cli.families.shared import Step
from sortednet_cli.space import SubModel
from sortednet_cli.spec import ModelSpec

BOTTLENECK_EXPANSION = 4

CHANNELS_PER_GROUP = 4

MakeNorm = Callable[[int], nn.Module]


def _instance_norm(num_features: int) -> nn.Module:
    return nn.InstanceNorm2d(num_features, affine=True)


def _group_norm(num_features: int) -> nn.Module:
    if num_features % CHANNELS_PER_GROUP:
        raise ValueError(
            f"norm 'group' needs a multiple of {CHANNELS_PER_GROUP} channels, not {num_features}"
        )
    return nn.GroupNorm(num_features // CHANNELS_PER_GROUP, num_features)


NORMS: dict[str, MakeNorm] = {
    "batch": nn.BatchNorm2d,
    "instance": _instance_norm,
    "group": _group_norm,
}


class Projection(nn.Conv2d):
    """A shortcut that changes stride or channels: a 1x1 convolution of every `step`-th pixel.

    It equals a 1x1 convolution with a stride. That one is avoided because the weight gradient of
    oneDNN writes past its workspace if the memory format is `channels_last` and channels are few
    (uxlfoundation/oneDNN, issue 6035).
    """

    def __init__(self, num_in: int, num_out: int, step: int) -> None:
        super().__init__(num_in, num_out, 1, bias=False)
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C', H / step, W / step]."""
        return super().forward(x[:, :, :: self.step, :: self.step])


class BasicBlock(nn.Module):
    """Norm, relu, conv 3x3, norm, relu, conv 3x3, added to the input.

    If stride or channels change, the shortcut is a 1x1 convolution of the pre-activated input.
    """

    def __init__(self, num_in: int, num_out: int, stride: int, norm: MakeNorm) -> None:
        super().__init__()
        self.norm1 = norm(num_in)
        self.conv1 = nn.Conv2d(num_in, num_out, 3, stride, 1, bias=False)
        self.norm2 = norm(num_out)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, 1, 1, bias=False)
        self.shortcut = _shortcut(num_in, num_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C', H / stride, W / stride]."""
        active = F.relu(self.norm1(x))
        residual = x if self.shortcut is None else self.shortcut(active)
        out = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return cast(Tensor, out + residual)


class BottleneckBlock(nn.Module):
    """1x1 down, 3x3, 1x1 up to four times the channels, each after norm and relu."""

    def __init__(self, num_in: int, num_inner: int, stride: int, norm: MakeNorm) -> None:
        super().__init__()
        num_out = num_inner * BOTTLENECK_EXPANSION
        self.norm1 = norm(num_in)
        self.conv1 = nn.Conv2d(num_in, num_inner, 1, bias=False)
        self.norm2 = norm(num_inner)
        self.conv2 = nn.Conv2d(num_inner, num_inner, 3, stride, 1, bias=False)
        self.norm3 = norm(num_inner)
        self.conv3 = nn.Conv2d(num_inner, num_out, 1, bias=False)
        self.shortcut = _shortcut(num_in, num_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, 4 * inner, H / stride, W / stride]."""
        active = F.relu(self.norm1(x))
        residual = x if self.shortcut is None else self.shortcut(active)
        out = self.conv2(F.relu(self.norm2(self.conv1(active))))
        out = self.conv3(F.relu(self.norm3(out)))
        return cast(Tensor, out + residual)


class PreActResNet(nn.Module):
    """Stem convolution, stages of pre-activation blocks, norm, relu, mean pool, linear head.

    Args:
        channels: base channels of each stage (before a bottleneck's expansion).
        blocks: number of blocks in each stage.
        strides: stride of the first block of each stage.
        block: `basic` or `bottleneck`.
        norm: `batch`, `instance` or `group`. The latter two are affine and have no running
            statistics. A group has four channels, so that the groups of a narrow network are groups
            of the wider ones too.
        stem_channels: channels of the stem; None for those of the first stage.
        in_channels: channels of the images.
        num_classes: size of the output.
    """

    def __init__(
        self,
        channels: Sequence[int],
        blocks: Sequence[int],
        strides: Sequence[int],
        block: Literal["basic", "bottleneck"] = "basic",
        norm: Literal["batch", "instance", "group"] = "batch",
        stem_channels: int | None = None,
        in_channels: int = 3,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        if not len(channels) == len(blocks) == len(strides) > 0:
            raise ValueError("channels, blocks and strides need one value for each stage")
        if block not in ("basic", "bottleneck"):
            raise ValueError(f"block must be basic or bottleneck, not {block!r}")
        if norm not in NORMS:
            raise ValueError(f"norm must be batch, instance or group, not {norm!r}")
        make_norm = NORMS[norm]
        num_features = channels[0] if stem_channels is None else stem_channels
        self.stem = nn.Conv2d(in_channels, num_features, 3, 1, 1, bias=False)
        stages: list[nn.Module] = []
        for width, count, stride in zip(channels, blocks, strides, strict=True):
            stage: list[nn.Module] = []
            for index in range(count):
                step = stride if index == 0 else 1
                if block == "bottleneck":
                    stage.append(BottleneckBlock(num_features, width, step, make_norm))
                    num_features = width * BOTTLENECK_EXPANSION
                else:
                    stage.append(BasicBlock(num_features, width, step, make_norm))
                    num_features = width
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.norm = make_norm(num_features)
        self.head = nn.Linear(num_features, num_classes)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits [B, num_classes] of images [B, C, H, W]."""
        return self.classify(self.norm(self.stages(self.stem(x))))

    def classify(self, x: Tensor) -> Tensor:
        """Compute logits [B, num_classes] from the normalised features [B, C, H, W]."""
        return cast(Tensor, self.head(F.relu(x).mean((2, 3))))


def _shortcut(num_in: int, num_out: int, stride: int) -> nn.Module | None:
    if stride == 1 and num_in == num_out:
        return None
    return Projection(num_in, num_out, stride)


def _initialise(module: nn.Module) -> None:
    """Draw convolution weights by He et al. 2015: normal, scaled by fan-out, for relu."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


_COUNTS = Annotated[list[int], Field(min_length=1)]


class PreActResNetFamily(StagedFamily):
    """Width scales the channels of the stem and of every stage; depth cuts `blocks`."""

    classifier = "head"
    loader = "sortednet_cli.load_artifact"
    card = "from sortednet_cli import load_artifact\n\nmodel = load_artifact(folder).module()\n"

    def __init__(self, root: Root) -> None:
        channels = entry(root.config, "channels", _COUNTS)
        for key in ("blocks", "strides"):
            entry(root.config, key, _COUNTS)
        config = {"stem_channels": None, **root.config}
        if entry(config, "stem_channels", int | None) is None:
            config["stem_channels"] = channels[0]
        super().__init__(replace(root, config=config))

    @classmethod
    def complete_config(
        cls,
        model: ModelSpec,
        task: str,
        facts: Mapping[str, Any],
        stock: Mapping[str, Any] | None = None,
    ) -> Config:
        config = super().complete_config(model, task, facts, stock)
        return {"in_channels": facts["channels"], **config}

    @property
    def stages(self) -> Sequence[int]:
        return cast(Sequence[int], self.root.config["blocks"])

    def construct(self, config: Config) -> nn.Module:
        return PreActResNet(**config)

    def shrink(self, submodel: SubModel) -> Config:
        config, width = dict(self.root.config), width_of(submodel)
        kept = [count for count in self.kept(submodel) if count]
        config["blocks"] = kept
        config["strides"] = list(config["strides"][: len(kept)])
        config["channels"] = [scaled(c, width) for c in config["channels"][: len(kept)]]
        config["stem_channels"] = scaled(config["stem_channels"], width)
        return config

    def module_map(self, submodel: SubModel) -> dict[str, str | None]:
        return {path: path for path in ("stem", *self._blocks(submodel), "norm", "head")}

    def steps(self, submodel: SubModel, module: nn.Module) -> list[Step]:
        paths = ("stem", *self._blocks(submodel), "norm")
        return [Step(path, (module.get_submodule(path),)) for path in paths]

    def branch_end(self, block: nn.Module) -> Tensor | None:
        if not isinstance(block, BasicBlock | BottleneckBlock) or block.shortcut is not None:
            return None
        return (block.conv2 if isinstance(block, BasicBlock) else block.conv3).weight

    def tail(self, module: nn.Module, states: Tensor) -> Tensor:
        return cast(PreActResNet, module).classify(states)

    def _blocks(self, submodel: SubModel) -> list[str]:
        kept = enumerate(self.kept(submodel))
        return [f"stages.{stage}.{block}" for stage, count in kept for block in range(count)]
