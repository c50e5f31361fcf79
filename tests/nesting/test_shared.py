"""One pass for many depths: the same numbers as one sub-model after another."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sortednet_cli.families import Inputs, StagedFamily
from sortednet_cli.nesting import NestedNetwork, recalibrate
from sortednet_cli.space import SubModel
from sortednet_cli.spec.families import family_facts
from tests.pico import IMAGE_PICOS, NUM_CLASSES, Pico

pytestmark = pytest.mark.filterwarnings("ignore:grad and param do not obey")

STAGED = [
    name
    for name, pico in IMAGE_PICOS.items()
    if pico.model["family"] not in ("custom", "vit") and "depth" in pico.space
]
ORDERED = [
    (name, order)
    for name in STAGED
    for order in sorted(family_facts(str(IMAGE_PICOS[name].model["family"])).depth_orders)
]


def _network(name: str, order: str = "late-first") -> tuple[Pico, NestedNetwork]:
    pico = IMAGE_PICOS[name]
    family = pico.family()
    assert isinstance(family, StagedFamily)
    least = 1 if order == "prefix" else len(family.stages)
    depths: list[int | float] = [*range(least, sum(family.stages) + 1)]
    model = {**pico.model, "depth_order": order}
    pico = Pico(model, {"width": [0.5, 1.0], "depth": depths}, pico.image_size)
    return pico, pico.network()


def _batches(pico: Pico) -> list[Inputs]:
    return [pico.images() * scale for scale in (1.0, 2.0, 3.0)]


def _logits(network: NestedNetwork, group: list[SubModel], inputs: Inputs) -> list[Tensor]:
    shared = network.shared_pass(group, training=False)
    return [shared.logits(number, s) for number, s in enumerate(shared.states(inputs))]


@pytest.mark.parametrize(("name", "order"), ORDERED)
@torch.no_grad()
def test_logits_and_statistics_are_those_of_one_by_one(name: str, order: str) -> None:
    pico, network = _network(name, order)
    _, other = _network(name, order)
    groups = network.groups(network.space.submodels)
    assert len(groups) == len(pico.space["width"])
    for group in groups:
        found = recalibrate(network.family, group, network.at, _batches(pico))
        for submodel in group:
            (alone,) = recalibrate(other.family, [submodel], other.at, _batches(pico)).values()
            assert found[submodel].keys() == alone.keys()
            assert all(torch.equal(found[submodel][key], alone[key]) for key in alone)
        for submodel, logits in zip(group, _logits(network, group, pico.images()), strict=True):
            assert torch.equal(logits, pico.run(other.at(submodel)))


@pytest.mark.parametrize(("name", "order"), ORDERED)
def test_gradients_are_the_sum_of_separate_passes(name: str, order: str) -> None:
    pico, network = _network(name, order)
    targets = torch.arange(4) % NUM_CLASSES
    group = network.groups(network.space.submodels)[0]
    found = {}
    for together in (True, False):
        network.zero_gradients()
        torch.manual_seed(0)
        parts = [group] if together else [[submodel] for submodel in group]
        for part in parts:
            shared = network.shared_pass(part, training=True)
            for module in _dropouts(shared.modules):
                module.p = 0.0
            losses = [
                F.cross_entropy(shared.logits(number, states), targets)
                for number, states in enumerate(shared.states(pico.images()))
            ]
            torch.stack(losses).sum().backward()
        found[together] = {name: g.clone() for name, g in network.gradients.items()}
    for key, gradient in found[False].items():
        torch.testing.assert_close(found[True][key], gradient, rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.parametrize("name", STAGED)
def test_late_first_runs_each_trunk_block_once(name: str) -> None:
    """Bodies cost one pass of the deepest; each branch is at most a block for each stage."""
    pico, network = _network(name, "late-first")
    group = network.groups(network.space.submodels)[0]
    counts: Counter[nn.Module] = Counter()
    shared = network.shared_pass(group, training=False)
    handles = [
        module.register_forward_pre_hook(lambda conv, _: counts.update([conv]))
        for root in shared.modules
        for module in root.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        shared.states(pico.images())
    for handle in handles:
        handle.remove()
    assert set(counts.values()) == {1}
    deepest = [m for m in shared.modules[0].modules() if isinstance(m, nn.Conv2d)]
    assert all(counts[module] == 1 for module in deepest)
    alone = sum(isinstance(m, nn.Conv2d) for root in shared.modules for m in root.modules())
    assert len(counts) < alone


@torch.no_grad()
def test_blocks_with_other_statistics_are_not_shared() -> None:
    """An artifact's own statistics and those measured anew may come from other samples."""
    pico, network = _network("preact_basic")
    group = network.groups(network.space.submodels)[-1]
    expected = []
    for number, submodel in enumerate(group):
        module = network.at(submodel).eval()
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.fill_(number / 10)
        expected.append(pico.run(module))
    for found, logits in zip(_logits(network, group, pico.images()), expected, strict=True):
        assert torch.equal(found, logits)


def _dropouts(modules: object) -> list[nn.Dropout]:
    return [m for root in modules for m in root.modules() if isinstance(m, nn.Dropout)]
