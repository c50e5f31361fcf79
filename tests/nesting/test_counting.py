"""Costs: what is known of a block stands for it, and only for blocks that are alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sortednet_cli.families import Inputs
from sortednet_cli.families.transformers.family import TransformerFamily
from sortednet_cli.nesting import Costs, build_skeleton, check_space, cost_of
from sortednet_cli.nesting.counting import count_macs, kinds_of
from sortednet_cli.nesting.plan import plan_from_root, spare_skeleton
from tests.pico import PICOS, FlatNet, Pico

META = torch.device("meta")


def _inputs(pico: Pico) -> Callable[[int], Inputs]:
    def made(count: int) -> Inputs:
        if pico.is_text:
            return {"input_ids": torch.zeros(count, 12, dtype=torch.int64)}
        return torch.zeros(count, 3, pico.image_size, pico.image_size)

    return made


def _counted_by_torch(run: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad(), META:
        run()
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("name", sorted(PICOS))
def test_costs_are_those_that_torch_counts_on_each_model_alone(name: str) -> None:
    pico = PICOS[name]
    family, space, inputs = pico.family(), pico.search_space, _inputs(pico)
    check_space(family, space)
    costs = Costs(family, inputs, num_units=1)
    for submodel in space.submodels:
        module = build_skeleton(family, family.shrink(submodel)).eval()
        macs = _counted_by_torch(lambda module=module: family.forward(module, inputs(1)))  # type: ignore[misc]
        cost = cost_of(family, submodel, inputs, num_units=1)
        assert cost.macs == macs > 0
        assert cost.params == sum(parameter.numel() for parameter in module.parameters())
        skeleton = spare_skeleton(family, submodel)
        assert skeleton is not None
        # What a stock transformer holds cannot be told, so it is not run.
        assert (skeleton in kinds_of(skeleton)) != isinstance(family, TransformerFamily)
        assert costs.of(submodel) == cost
        assert spare_skeleton(family, submodel) is None


class Repeats(nn.Module):
    """A linear layer that runs as often as it is told, by whatever tells it."""

    def __init__(self, times: int | Callable[[], int]) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times() if callable(self.times) else self.times):
            x = self.linear(x)
        return x


def _count(block: nn.Module, *shape: int) -> tuple[torch.Size, int]:
    block = block.to(META)
    kinds = kinds_of(block)
    output, macs = count_macs(kinds, lambda: block(torch.empty(shape)))
    assert not any("forward" in vars(part) for part in block.modules())
    return output.shape, macs


@pytest.mark.parametrize("again", [1, 2])
def test_blocks_that_differ_in_anything_are_counted_apart(again: int) -> None:
    hooked = Repeats(1)
    hooked.register_forward_hook(lambda block, inputs, output: block.linear(output))
    assert _count(Repeats(1), 2, 4)[1] == 32
    assert _count(Repeats(3), 2, 4)[1] == 96
    assert _count(Repeats(3), 3, 4)[1] == 144
    assert _count(Repeats(lambda: 1), 2, 4)[1] == 32
    assert _count(Repeats(lambda: 3), 2, 4)[1] == 96
    assert _count(hooked, 2, 4)[1] == 64
    assert _count(nn.Sequential(Repeats(1), Repeats(2)), 2, 4)[1] == 96


def test_a_block_is_alike_only_if_all_of_it_can_be_told() -> None:
    told, untold = Repeats(2), Repeats(lambda: 2)
    both = nn.Sequential(told, untold, Repeats(2))
    kinds = kinds_of(both)
    assert kinds.keys() == {told, told.linear, untold.linear, both[2], both[2].linear}
    assert kinds[told] == kinds[both[2]]
    assert kinds[told.linear] == kinds[untold.linear] != kinds[told]
    told.linear.double()
    assert kinds_of(told)[told] != kinds[told]
    told.linear.float().eval()
    assert kinds_of(told)[told] != kinds[told]


class Reshapes(Repeats):
    """Reshapes in place what its layer gave."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).unsqueeze_(0)


def test_what_is_known_stays_what_it_was() -> None:
    for _ in range(3):
        assert _count(Reshapes(lambda: 1), 2, 4) == ((1, 2, 4), 32)


class Keeps(FlatNet):
    """Keeps a tensor that it makes when it first runs."""

    scale: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.scale is None:
            self.scale = torch.full((1,), 0.5, device=x.device)
        return super().forward(x) * self.scale


def test_a_module_that_keeps_something_does_not_get_it_from_being_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = PICOS["custom"]
    pico = Pico({**old.model, "factory": f"{__name__}:Keeps"}, old.space, old.image_size)
    network = pico.network()
    family, submodel = network.family, network.space.smallest
    plan_from_root(family, submodel)
    assert spare_skeleton(family, submodel) is not None
    costs = Costs(family, _inputs(pico), num_units=1)
    spare = spare_skeleton(family, submodel)
    network.inspect = costs.count
    assert network.at(submodel) is not spare
    monkeypatch.delattr("sortednet_cli.nesting.cost.cost_of")  # it is known
    assert costs.of(submodel).macs > 0
    assert torch.equal(pico.run(network.at(submodel)), pico.run(network.standalone(submodel)))
