"""Gradients that an update collects are those that backward passes add in place."""

from __future__ import annotations

from random import Random

import pytest
import torch

from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.space import SubModel
from tests.pico import PICOS, Pico

pytestmark = pytest.mark.filterwarnings("ignore:grad and param do not obey")


def _update(network: NestedNetwork, pico: Pico, drawn: list[SubModel]) -> dict[str, torch.Tensor]:
    network.zero_gradients()
    for number, submodel in enumerate(drawn, start=1):
        with network.collecting([submodel]):
            pico.run(network.at(submodel).train()).square().sum().mul(number).backward()
    return {name: gradient.clone() for name, gradient in network.gradients.items()}


def test_nothing_of_an_earlier_update_is_left(pico: Pico) -> None:
    """Wide, narrow, shallow and deep in turn: what one update wrote, the next must not see."""
    networks = [pico.network(in_place=in_place) for in_place in (True, False)]
    random = Random(0)
    for _ in range(8):
        drawn = random.choices(pico.spread(), k=random.choice([1, 1, 2, 3]))
        expected, found = (_update(network, pico, drawn) for network in networks)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-7, msg=name)
            assert torch.equal(found[name] == 0, gradient == 0), name


def test_a_whole_gradient_is_kept_without_a_copy() -> None:
    pico = PICOS["resnet50"]
    network = pico.network(in_place=False)
    _update(network, pico, [network.space.largest])
    slots = {buffer.untyped_storage().data_ptr() for buffer in network.gradient_buffers}
    for name, parameter in network.module.named_parameters():
        network.expose_gradients([name])
        assert parameter.grad is not None
        assert parameter.grad.untyped_storage().data_ptr() not in slots, name


def test_a_failed_pass_leaves_nothing_for_the_next_one() -> None:
    pico = PICOS["resnet50"]
    network = pico.network(in_place=False)
    small = network.space.smallest
    with pytest.raises(RuntimeError, match="stop"), network.collecting([small]):
        pico.run(network.at(small).train()).sum().backward()
        raise RuntimeError("stop")
    assert all(not gradient.any() for gradient in network.gradients.values())
    expected = _update(pico.network(in_place=False), pico, [small])
    for name, gradient in _update(network, pico, [small]).items():
        torch.testing.assert_close(gradient, expected[name], msg=name)


def test_submodels_share_the_parameter_of_a_slice_that_both_have() -> None:
    """So that the exits of a pass add to one gradient of their head, however many they are."""
    pico = PICOS["llama"]
    network = pico.network()
    shallow, deep = (network.at(depth=depth) for depth in (1, max(pico.space["depth"])))
    assert shallow.lm_head.weight is deep.lm_head.weight
