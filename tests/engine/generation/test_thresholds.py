"""Thresholds keep the agreement that was asked for, and no exit stays that does not pay."""

from __future__ import annotations

import torch

from sortednet_cli.engine.generation.thresholds import Observed, choose_thresholds


def observed(count: int = 4000) -> dict[int, Observed]:
    """Exits whose agreement is their confidence, the deeper the surer."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for depth in (1, 2, 3):
        confidence = torch.rand(count, generator=generator) ** (1 / depth)
        agrees = torch.rand(count, generator=generator) < confidence
        found[depth] = Observed(confidence, agrees)
    return found


def test_every_exit_agrees_as_asked() -> None:
    for target in (0.9, 0.97):
        found = choose_thresholds(observed(), 8, target, head_cost=0.01)
        assert set(found.exits) == {1, 2, 3}
        assert all(stored.agreement >= target for stored in found.exits.values())
        assert found.agreement >= target


def test_stricter_thresholds_are_higher() -> None:
    loose, strict = (choose_thresholds(observed(), 8, t, 0.01) for t in (0.9, 0.97))
    assert all(strict.exits[d].threshold > loose.exits[d].threshold for d in strict.exits)


def test_equal_confidences_leave_together() -> None:
    agrees = torch.tensor([True] * 99 + [False])
    tied = {1: Observed(torch.ones(100), agrees)}
    assert choose_thresholds(tied, 8, 0.99, 0.1).exits[1].share == 1
    assert not choose_thresholds(tied, 8, 0.995, 0.1).exits


def test_an_exit_whose_head_costs_more_than_it_saves_is_left_out() -> None:
    assert not choose_thresholds(observed(), 4, 0.9, head_cost=50.0).exits
