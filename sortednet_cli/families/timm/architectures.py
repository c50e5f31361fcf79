"""Declarations of timm's architectures. No torch.

An architecture is a class of timm. Its constructor's arguments say what an axis can shrink, and its
modules' paths say where the blocks are. A class that takes no such argument cannot be declared
(EfficientNet and MobileNetV3 and V4 take tables of blocks), nor one whose functions in timm fix it
(MlpMixer).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sortednet_cli.families.fused import Fused


@dataclass(frozen=True, kw_only=True)
class TimmArchitecture:
    """A class of timm's.

    Attributes:
        widths: the arguments that width scales, numbers or lists of them.
        steps: of what an argument must stay a multiple; others are rounded to whole numbers.
        depth: the argument that depth sets: a number of blocks, or a list with one for each stage;
            None if no argument cuts blocks from the ends of stages.
        no_depth: why there is none.
        blocks: the path of the container of each stage's blocks, with `{}` for the number of the
            stage.
        first_stage: the number of the first stage.
        stem: what runs before the blocks: paths of modules, or names of methods.
        before: modules of a stage that run before its blocks, with `{}` for its number.
        end: modules that run after the blocks; what follows is `forward_head`.
        fused: tensors that hold several.
    """

    widths: tuple[str, ...]
    steps: Mapping[str, int] = field(default_factory=dict)
    depth: str | None = None
    no_depth: str = ""
    blocks: str = ""
    first_stage: int = 0
    stem: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    end: tuple[str, ...] = ()
    fused: Mapping[str, Fused] = field(default_factory=dict)


ARCHITECTURES: Mapping[str, TimmArchitecture] = {
    "VisionTransformer": TimmArchitecture(  # Dosovitskiy et al., arXiv 2010.11929; DeiT too
        widths=("num_heads", "embed_dim"),
        steps={"num_heads": 1},
        depth="depth",
        blocks="blocks",
        stem=("patch_embed", "_pos_embed", "patch_drop", "norm_pre"),
        end=("norm",),
        fused={"blocks.*.attn.qkv": Fused((1, 1, 1))},
    ),
    "ConvNeXt": TimmArchitecture(  # Liu et al., arXiv 2201.03545
        widths=("dims",),
        depth="depths",
        blocks="stages.{}.blocks",
        stem=("stem",),
        before=("stages.{}.downsample",),
        end=("norm_pre",),
    ),
    "ResNet": TimmArchitecture(  # He et al., arXiv 1512.03385
        widths=("channels", "stem_width"),
        depth="layers",
        blocks="layer{}",
        first_stage=1,
        stem=("conv1", "bn1", "act1", "maxpool"),
    ),
    "RegNet": TimmArchitecture(  # Radosavovic et al., arXiv 2003.13678
        widths=("w0", "wa"),
        steps={"w0": 8},
        no_depth="its constructor spreads blocks over stages by their widths",
    ),
}
"""By the name of the class."""
