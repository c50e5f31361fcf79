"""Skeletons: built once, filled with nothing, and each one's own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sortednet_cli.nesting import NestedNetwork, build_skeleton, init_network
from sortednet_cli.nesting.plan import plan_from_root, spare_skeleton
from tests.pico import PICOS, FlatNet, Pico


class Scaled(FlatNet):
    """Holds a tensor of its own, filled by torch's functions wherever the rest is."""

    def __init__(self, hidden: int, layers: int, num_classes: int) -> None:
        super().__init__(hidden, layers, num_classes)
        self.scale = nn.init.constant_(torch.empty(1, device="cpu"), 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


def test_only_tensors_without_values_are_left_unfilled() -> None:
    own = dict(vars(nn.init))
    old = PICOS["custom"]
    pico = Pico({**old.model, "factory": f"{__name__}:Scaled"}, old.space, old.image_size)
    family = pico.family()
    skeleton = build_skeleton(family, family.root.config)
    assert skeleton.scale.tolist() == [0.5]
    assert all(parameter.is_meta for parameter in skeleton.parameters())
    assert vars(nn.init) == own
    state = torch.get_rng_state()
    build_skeleton(family, family.root.config)
    assert torch.equal(torch.get_rng_state(), state)


def test_networks_of_one_family_have_modules_of_their_own(pico: Pico) -> None:
    family, space = pico.family(), pico.search_space
    submodel = space.smallest
    plan = plan_from_root(family, submodel)
    first, second = (NestedNetwork(family, space, init_network(family, s)) for s in (0, 1))
    spare = spare_skeleton(family, submodel)
    assert first.at(submodel) is spare
    assert spare_skeleton(family, submodel) is None
    assert second.at(submodel) is not spare
    assert second.plan(submodel) is plan
    for network in (first, second):
        root = {parameter.untyped_storage().data_ptr() for parameter in network.module.parameters()}
        assert all(
            p.untyped_storage().data_ptr() in root for p in network.at(submodel).parameters()
        )
