"""Nested first weights: wide networks begin as the narrow one, and deep ones as the shallow one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sortednet_cli.errors import RequestError
from sortednet_cli.nesting import (
    NestedNetwork,
    crossing_weights,
    init_as_identity,
    init_network,
    zero_crossing_weights,
)
from sortednet_cli.nesting.identity import branch_ends
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import ModelSpec, load_preset
from tests.commands import TINY, command
from tests.pico import PICOS, Pico

LAST_STATES = {
    "preact_basic": "norm",
    "preact_bottleneck": "norm",
    "preact_prefix_instance": "norm",
    "preact_group": "norm",
    "mobilenet_v2": "features.-2",
}
"""Families whose channels are all cut by width, and the last layer whose outputs are: in
MobileNetV2 the one below the 1280 channels that every width has."""

LAST_BLOCKS = {
    "preact_basic": "norm",
    "preact_bottleneck": "norm",
    "preact_group": "norm",
    "mobilenet_v2": "features.-2",
    "resnet50": "layer4",
}
"""Families of which every depth keeps all stages, and the last layer below the head."""


def _states(network: NestedNetwork, layer: str, images: Tensor, **axes: Any) -> Tensor:
    module = network.at(**axes).train()
    if layer.endswith(".-2"):
        features = module.get_submodule("features")
        assert isinstance(features, nn.Sequential)
        found = features[-2]
    else:
        found = module.get_submodule(layer)
    kept: list[Tensor] = []
    hook = found.register_forward_hook(lambda _, __, output: kept.append(output))
    with torch.no_grad():
        module(images)
    hook.remove()
    return kept[0]


def _begun(pico: Pico, begin: Callable[[NestedNetwork], None]) -> list[tuple[NestedNetwork, bool]]:
    """A network with such first weights, whose sub-models agree, and a stock one, whose do not."""
    begun = pico.network()
    begin(begun)
    return [(begun, True), (pico.network(), False)]


@pytest.mark.parametrize("name", LAST_STATES)
def test_all_widths_begin_with_the_same_features(name: str) -> None:
    """In training mode, at every depth; with stock first weights they differ."""
    pico = PICOS[name]
    axes = dict(pico.search_space.axes)
    for network, agree in _begun(pico, zero_crossing_weights):
        for depth in axes["depth"]:
            images = pico.images(8)
            layer = LAST_STATES[name]
            whole = _states(network, layer, images, width=1.0, depth=depth)
            for width in axes["width"][:-1]:
                part = _states(network, layer, images, width=width, depth=depth)
                near = torch.allclose(part, whole[:, : part.shape[1]], atol=1e-4)
                assert near == agree


@pytest.mark.parametrize("name", LAST_BLOCKS)
def test_all_depths_begin_with_the_same_features(name: str) -> None:
    """In training mode, at every width; with stock first weights they differ."""
    pico = PICOS[name]
    axes, images = dict(pico.search_space.axes), pico.images(8)
    for network, agree in _begun(pico, init_as_identity):
        for width in axes["width"]:
            shallow, *others = (
                _states(network, LAST_BLOCKS[name], images, width=width, depth=depth)
                for depth in axes["depth"]
            )
            assert [torch.equal(deep, shallow) for deep in others] == [agree] * len(others)


def test_blocks_that_cannot_be_identity_and_those_of_every_sub_model_keep_their_weights() -> None:
    """Here a prefix leaves out the first block of the second stage, which changes the shape."""
    pico = PICOS["preact_prefix_instance"]
    network = pico.network()
    assert set(branch_ends(network)) == {"stages.0.1", "stages.1.1"}
    whole = SearchSpace.of({**pico.space, "depth": [4]})
    alone = NestedNetwork(network.family, whole, init_network(network.family, 0))
    assert branch_ends(alone) == {}


@pytest.mark.parametrize("name", PICOS)
def test_every_output_keeps_an_input(name: str) -> None:
    network = PICOS[name].network()
    for parameter, mask in crossing_weights(network).items():
        assert mask.any(), parameter
        assert not mask.all(dim=1).any(), parameter


def test_a_training_begins_with_them_only_if_asked(tmp_path: Path) -> None:
    settings = [*TINY, "--set=train.lr=1e-9", "--set=space.width=[0.5, 1.0]"]
    shares = {}
    for init in ("stock", "nested", "nested-identity"):
        run = tmp_path / init
        done = command("train", *settings, f"--set=model.init={init}", "--out", str(run))
        assert done.code == 0, done.err
        weights = load_file(run / "weights.safetensors")
        shares[init] = {
            name: float((tensor.abs() < 1e-6).float().mean())
            for name, tensor in weights.items()
            if tensor.ndim == 4
        }
    assert max(shares["stock"].values()) < 0.01
    assert shares["nested"]["stem.weight"] < 0.01
    assert shares["nested-identity"]["stages.0.1.conv2.weight"] == 1
    inner = [share for name, share in shares["nested"].items() if name != "stem.weight"]
    assert min(inner) == pytest.approx(0.25, abs=0.01)  # half of the outputs, half of the inputs


def test_not_for_norms_over_all_channels(tmp_path: Path) -> None:
    done = command(
        "train",
        "--preset=sst2-minilm",
        "--set=model.init=nested",
        f"--out={tmp_path / 'run'}",
    )
    assert done.code == 2
    assert "init 'nested' is for image networks" in done.err


def test_slow_crossing_weights_are_for_image_networks() -> None:
    with pytest.raises(RequestError, match=r"train\.crossing_lr is for image networks"):
        load_preset("pydoc-llama", ["train.crossing_lr=0.5"])


class Tied(nn.Module):
    """Two square layers of one weight, and a square buffer."""

    def __init__(self, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Linear(3 * 8 * 8, hidden)
        self.one, self.two = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.two.weight = self.one.weight
        self.register_buffer("scale", torch.ones(hidden, hidden))
        self.head = nn.Linear(hidden, num_classes)


def test_tied_weights_cross_once_and_buffers_never() -> None:
    model = {
        "family": "custom",
        "factory": "tests.nesting.test_crossing:Tied",
        "config": {"hidden": 8, "num_classes": 5},
        "axes": {"width": {"scales": ["hidden"]}},
    }
    network = Pico(model, {"width": [0.5, 1.0]}, image_size=8).network()
    assert set(crossing_weights(network)) == {"one.weight"}


def test_not_for_blocks_that_nobody_describes() -> None:
    model = {**PICOS["custom"].model, "init": "nested-identity"}
    with pytest.raises(ValueError, match="is not for custom models"):
        ModelSpec.model_validate(model)
