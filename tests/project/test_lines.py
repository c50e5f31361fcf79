"""The line of LCS, against its definition."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.accuracy.lines import LineNorm, LinesNetwork
from sortednet_cli.families.preact_resnet import PreActResNet


def _scattered(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def test_ends_have_a_vector_each_and_widths_between_lie_on_the_line() -> None:
    x = torch.randn(2, 8, 5, 5)
    line = LineNorm(8, 0.25)
    _scattered(line)
    weight = 0.75 * line.weight + 0.25 * line.far_weight
    bias = 0.75 * line.bias + 0.25 * line.far_bias
    torch.testing.assert_close(line(x), F.instance_norm(x, weight=weight, bias=bias))
    for place, ends in ((0.0, (line.weight, line.bias)), (1.0, (line.far_weight, line.far_bias))):
        line.place = place
        wanted = F.instance_norm(x, weight=ends[0], bias=ends[1])
        torch.testing.assert_close(line(x), wanted)


def test_the_widest_is_trained_with_the_penalty_and_others_without() -> None:
    x, targets = torch.randn(2, 3, 32, 32), torch.tensor([1, 7])
    for width in (1.0, 0.5):
        network = LinesNetwork(width)
        _scattered(network)
        F.cross_entropy(network(x), targets).backward()
        found = {name: p.grad for name, p in network.named_parameters()}
        network.zero_grad()
        loss = F.cross_entropy(PreActResNet.forward(network, x), targets)
        (loss + network.penalty() if width == 1 else loss).backward()
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad, msg=name)
