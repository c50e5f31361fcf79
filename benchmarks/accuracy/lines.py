"""The line of LCS (Learning Compressible Subspaces, arXiv 2110.04252), as a custom model.

A sub-model's convolutions are leading slices, as everywhere. Its InstanceNorms have two affine
vectors each: the narrowest width has the one, the widest the other, and those between have what
lies on the line through both. A penalty keeps the two apart: the square of the cosine between all
vectors of the one end and all of the other. Published for widths of cPreResNet20 as a sandwich of
four with summed losses: 200 epochs, batch 128, learning rate 0.1, weight decay 5e-4. The "point"
of the same paper has one vector, as `model.config.norm = "instance"` has.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sortednet_cli.families.preact_resnet import PreActResNet

CHANNELS = (16, 32, 64)


class LineNorm(nn.InstanceNorm2d):
    """An InstanceNorm whose affine vectors lie on a line.

    Args:
        num_features: channels.
        place: on the line: 0 takes `weight` and `bias`, 1 takes `far_weight` and `far_bias`.
    """

    def __init__(self, num_features: int, place: float) -> None:
        super().__init__(num_features, affine=True)
        self.place = place
        self.far_weight = nn.Parameter(torch.ones(num_features))
        self.far_bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.lerp(self.weight, self.far_weight, self.place)
        bias = torch.lerp(self.bias, self.far_bias, self.place)
        return F.instance_norm(x, weight=weight, bias=bias, eps=self.eps)


class LinesNetwork(PreActResNet):
    """cPreResNet20 of six bottleneck blocks, one width of a line.

    Args:
        width: of the sub-model; 1 for the whole network.
        narrowest: the width at the near end of the line.
    """

    def __init__(self, width: float = 1.0, narrowest: float = 0.25) -> None:
        super().__init__(
            [round(width * count) for count in CHANNELS],
            (2, 2, 2),
            (1, 2, 2),
            block="bottleneck",
            norm="instance",
            stem_channels=round(width * CHANNELS[0]),
        )
        self.is_widest = width == 1
        place = (width - narrowest) / (1 - narrowest)
        for module in list(self.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.InstanceNorm2d):
                    setattr(module, name, LineNorm(child.num_features, place))

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        if not (self.is_widest and torch.is_grad_enabled()):
            return logits
        return cast(Tensor, _Penalised.apply(logits, self.penalty()))

    def penalty(self) -> Tensor:
        """Compute the squared cosine between the ends of the line."""
        norms = [module for module in self.modules() if isinstance(module, LineNorm)]
        near = torch.cat([norm.weight for norm in norms])
        far = torch.cat([norm.far_weight for norm in norms])
        return (near @ far).square() / (near.square().sum() * far.square().sum())


class _Penalised(torch.autograd.Function):
    """Logits whose backward pass also gives a penalty its gradient, as if the loss held it."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, penalty: Tensor) -> Tensor:
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        return gradient, gradient.new_ones(())
