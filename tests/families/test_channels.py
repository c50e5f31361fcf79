"""Channels in order of importance: the function stays, and the largest come first."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from sortednet_cli.errors import RequestError
from sortednet_cli.families.channels import coupled_channels, reorder_channels
from sortednet_cli.nesting import init_network
from tests.pico import IMAGE_PICOS

FOLLOWED = [
    name
    for name, pico in IMAGE_PICOS.items()
    if not name.startswith(("fused", "vit", "timm_vit")) and name != "custom"
]


def _network(name: str) -> nn.Module:
    """A network whose norms have statistics and weights of their own."""
    module = init_network(IMAGE_PICOS[name].family(), 3)
    generator = torch.Generator().manual_seed(0)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 1:
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return module.eval()


@pytest.mark.parametrize("by_activation", [False, True])
@pytest.mark.parametrize("name", FOLLOWED)
def test_the_function_stays(name: str, by_activation: bool) -> None:
    module, images = _network(name), IMAGE_PICOS[name].images()
    before = copy.deepcopy(module)
    reorder_channels(module, [images, images + 1], by_activation=by_activation)
    with torch.no_grad():
        expected, found = before(images), module(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    moved = [
        name
        for (name, old), new in zip(before.named_parameters(), module.parameters(), strict=True)
        if not torch.equal(old, new)
    ]
    assert bool(moved) != (name == "preact_group")


@pytest.mark.parametrize("name", ["preact_basic", "mobilenet_v2", "resnet50", "timm_resnet"])
def test_the_largest_come_first(name: str) -> None:
    module, images = _network(name), IMAGE_PICOS[name].images()
    reorder_channels(module, [images])
    tensors = dict(module.named_parameters())
    groups = [c for c in coupled_channels(module, images) if c.inputs and not c.fixed]
    assert len(groups) >= 2
    for channels in groups:
        total: Tensor = sum(  # type: ignore[assignment]
            tensors[own].detach().transpose(0, dim).abs().flatten(1).sum(1)
            for own, dim in channels.inputs
        )
        assert (total.diff() <= 1e-4).all()


def test_the_most_active_come_first() -> None:
    """Whatever the weights that read them are."""

    def weights(of: nn.Module, channel: int) -> Tensor:
        """Those that make a channel; what they read may be in another order."""
        return of.get_parameter("stages.0.0.conv1.weight")[channel].detach().flatten().sort().values

    module, images = _network("preact_basic"), IMAGE_PICOS["preact_basic"].images()
    with torch.no_grad():
        module.get_parameter("stages.0.0.norm2.weight")[2] *= 100
        module.get_parameter("stages.0.0.conv2.weight")[:, 2] *= 1e-3
    wanted, by_weights = weights(module, 2), copy.deepcopy(module)
    reorder_channels(module, [images], by_activation=True)
    assert torch.equal(weights(module, 0), wanted)
    reorder_channels(by_weights, [images])
    assert torch.equal(weights(by_weights, -1), wanted)


def test_a_residual_stream_is_one() -> None:
    module = _network("preact_basic")
    (stream,) = (
        channels
        for channels in coupled_channels(module, IMAGE_PICOS["preact_basic"].images())
        if ("stem.weight", 0) in channels.holders
    )
    held = {name for name, _ in stream.holders}
    assert {"stages.0.0.conv2.weight", "stages.0.0.norm1.weight"} <= held


class Shuffles(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(torch.roll(self.conv(x), 1, dims=1).mean((2, 3)))
        return result


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(RequestError, match=r"cannot be followed through .*roll"):
        reorder_channels(Shuffles(), [torch.zeros(1, 3, 4, 4)])
