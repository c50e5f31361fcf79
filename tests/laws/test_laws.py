"""The laws that hold for every family, over a spread of sub-models."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import nn

from sortednet_cli.nesting import (
    NestedNetwork,
    SlicePlan,
    TensorSlice,
    plan_between,
    plan_from_root,
)
from sortednet_cli.space import SubModel
from tests.pico import PICOS, Pico

pytestmark = pytest.mark.filterwarnings("ignore:grad and param do not obey")


def _loss(module: nn.Module, pico: Pico) -> torch.Tensor:
    # Weighted outputs: a plain sum has zero gradient behind some normalisations.
    outputs = pico.run(module)
    return (outputs * torch.arange(outputs.numel()).view_as(outputs)).sum()


def _copy(network: NestedNetwork, submodel: SubModel) -> nn.Module:
    """The standalone network, in training mode, with gradients of its own."""
    return network.standalone(submodel).train()


def test_views_equal_their_contiguous_copy_and_the_rebuilt_module(pico: Pico) -> None:
    network = pico.network()
    for submodel in pico.spread():
        view = network.at(submodel).eval()
        rebuilt = network.family.build(network.family.shrink(submodel)).eval()
        rebuilt.load_state_dict(copy.deepcopy(network.standalone(submodel).state_dict()))
        with torch.no_grad():
            expected = pico.run(network.standalone(submodel))
            assert torch.equal(pico.run(rebuilt), expected)
            assert torch.equal(pico.run(view), expected)


def test_largest_is_the_plain_module(pico: Pico) -> None:
    network = pico.network()
    plain = copy.deepcopy(network.module)
    plain.zero_grad(set_to_none=True)
    largest = network.at(network.space.largest)
    for module in (plain, largest):
        module.train()
        _loss(module, pico).backward()
    for (name, expected), found in zip(plain.named_parameters(), largest.parameters(), strict=True):
        assert torch.equal(expected.grad, found.grad), name
        assert found.is_contiguous(), name


@pytest.mark.parametrize("in_place", [True, False])
def test_gradients_land_in_the_slices_and_nowhere_else(pico: Pico, in_place: bool) -> None:
    network = pico.network(in_place=in_place)
    for submodel in pico.spread():
        network.zero_gradients()
        alone = _copy(network, submodel)
        module = network.at(submodel).train()
        _loss(alone, pico).backward()
        with network.collecting([submodel]):
            _loss(module, pico).backward()
        network.check_sharing(submodel)
        expected = {name: torch.zeros_like(g) for name, g in network.gradients.items()}
        plan = network.plan(submodel)
        for name, parameter in alone.named_parameters():
            piece = plan.slices[name]
            whole = expected[piece.source]
            positions = piece.of(torch.arange(whole.numel()).view_as(whole))
            whole.view(-1)[positions] = parameter.grad
        for name, gradient in network.gradients.items():
            # Some processors take another kernel for strided slices, whose rounding is that of the
            # largest terms of a sum, however small the sum.
            scale = max(1.0, float(expected[name].abs().max()))
            close = {"rtol": 1e-5, "atol": 1e-6 * scale}
            torch.testing.assert_close(gradient, expected[name], **close, msg=name)
            assert torch.equal(gradient == 0, expected[name] == 0), name


@pytest.mark.parametrize("in_place", [True, False])
def test_gradients_accumulate_over_submodels(pico: Pico, in_place: bool) -> None:
    network = pico.network(in_place=in_place)
    small, large = network.space.smallest, network.space.largest
    total = {}
    for submodel in (small, large):
        network.zero_gradients()
        with network.collecting([submodel]):
            _loss(network.at(submodel).train(), pico).backward()
        for name, gradient in network.gradients.items():
            total[name] = total.get(name, 0) + gradient.clone()
    network.zero_gradients()
    for submodel in (small, large):
        with network.collecting([submodel]):
            _loss(network.at(submodel).train(), pico).backward()
    for name, gradient in network.gradients.items():
        torch.testing.assert_close(gradient, total[name], rtol=1e-4, atol=1e-5, msg=name)


def test_plans_compose(pico: Pico) -> None:
    family = pico.family()
    for outer in pico.spread():
        to_outer = plan_from_root(family, outer)
        for inner in pico.search_space.nested_in(outer).submodels:
            composed = to_outer.then(plan_between(family, outer, inner))
            assert composed == plan_from_root(family, inner)


def test_every_submodel_holds_the_smaller_ones(pico: Pico) -> None:
    """Depth d is contained in depth d + 1, and every width in the next."""
    family = pico.family()
    plans = {s: plan_from_root(family, s) for s in pico.search_space.submodels}
    for small, large in ((a, b) for a in plans for b in plans if a <= b):
        bounds = {piece.source: piece for piece in plans[large].slices.values()}
        for piece in plans[small].slices.values():
            assert piece.within(bounds[piece.source], "") is not None


def test_a_plan_by_name_would_be_wrong_where_names_shift() -> None:
    """The expected sources are written by hand, and checked by sentinel values."""
    family = PICOS["mobilenet_v2"].family()
    plan = plan_from_root(family, SubModel.of({"width": 0.5, "depth": 4}))
    blocks = {name.split(".")[1]: p.source.split(".")[1] for name, p in _features(plan)}
    # Features are stem 0, blocks 1 | 2 3 4 | 5 6, last convolution 7. At depth 4, balanced,
    # the last block of each longer row is gone.
    assert blocks == {"0": "0", "1": "1", "2": "2", "3": "3", "4": "5", "5": "7"}
    network = PICOS["mobilenet_v2"].network()
    with torch.no_grad():
        for index in range(8):
            for parameter in network.module.features[index].parameters():
                parameter.fill_(float(index))
    module = network.at(width=0.5, depth=4)
    found = [_values(part) for part in module.features]
    assert found == [{0.0}, {1.0}, {2.0}, {3.0}, {5.0}, {7.0}]


def _features(plan: SlicePlan) -> list[tuple[str, TensorSlice]]:
    return [(n, p) for n, p in plan.slices.items() if n.startswith("features.")]


def _values(module: nn.Module) -> set[float]:
    return {value for p in module.parameters() for value in p.detach().unique().tolist()}


def test_sentinels_of_a_custom_sequential_reach_their_tail() -> None:
    network = PICOS["custom"].network()
    with torch.no_grad():
        for index, part in enumerate(network.module.net):
            for parameter in part.parameters():
                parameter.fill_(float(index))
    module = network.at(width=0.5, depth=2)
    found = [_values(part) for part in module.net]
    assert found == [{0.0}, {1.0}, {2.0}, {5.0}, {6.0}]


@pytest.mark.parametrize(
    ("name", "depth", "kept"),
    [
        ("preact_basic", 4, {"stages.0.0", "stages.0.1", "stages.1.0", "stages.1.1"}),
        ("preact_basic", 3, {"stages.0.0", "stages.1.0", "stages.1.1"}),
        ("preact_bottleneck", 3, {"stages.0.0", "stages.0.1", "stages.1.0"}),
        ("preact_prefix_instance", 1, {"stages.0.0"}),
        ("resnet50", 5, {"layer1.0", "layer2.0", "layer2.1", "layer3.0", "layer4.0"}),
    ],
)
def test_sentinels_show_which_blocks_a_depth_keeps(name: str, depth: int, kept: set[str]) -> None:
    network = PICOS[name].network()
    is_block = re.compile(r"(stages\.\d+|layer\d+)\.\d+")
    paths = [path for path, _ in network.module.named_modules() if is_block.fullmatch(path)]
    with torch.no_grad():
        for number, path in enumerate(paths, start=1):
            for parameter in network.module.get_submodule(path).parameters():
                parameter.fill_(float(number))
    module = network.at(depth=depth, width=0.5)
    for number, path in enumerate(paths, start=1):
        if path in kept:
            assert _values(module.get_submodule(path)) == {float(number)}, path
        else:
            with pytest.raises(AttributeError):
                module.get_submodule(path)


def test_switching_submodels_copies_nothing(pico: Pico) -> None:
    network = pico.network()
    for submodel in pico.spread():
        module = network.at(submodel)
        assert network.at(submodel) is module
        root = {parameter.untyped_storage().data_ptr() for parameter in network.module.parameters()}
        for parameter in module.parameters():
            assert parameter.untyped_storage().data_ptr() in root


def test_check_sharing_finds_a_detached_view(pico: Pico) -> None:
    network = pico.network()
    submodel = network.space.smallest
    network.at(submodel).zero_grad(set_to_none=True)
    with pytest.raises(AssertionError):
        network.check_sharing(submodel)
