"""Layer dropout: which layers a micro-batch skips."""

from __future__ import annotations

from math import exp, log
from random import Random

import pytest

from sortednet_cli.errors import RequestError
from sortednet_cli.rules import layer_dropout_rates, skipped_layers
from sortednet_cli.spec import TrainSpec, load_preset


@pytest.mark.parametrize("layers", [2, 3, 12, 30])
def test_rates_grow_from_zero_to_the_highest_as_in_the_paper(layers: int) -> None:
    rates = layer_dropout_rates(0.2, layers)
    assert rates[0] == 0
    assert rates[-1] == pytest.approx(0.2)
    assert rates == sorted(set(rates))
    for layer, rate in enumerate(rates):
        assert rate == pytest.approx(0.2 * (exp(layer * log(2) / (layers - 1)) - 1))


def test_a_layer_is_skipped_as_often_as_its_rate_says() -> None:
    rates = layer_dropout_rates(0.5, 6)
    drawn = [skipped_layers(Random(number), 0.5, 6) for number in range(4000)]
    for layer, rate in enumerate(rates):
        share = sum(layer in layers for layers in drawn) / len(drawn)
        # Five standard deviations of the mean of 4000 draws are at most 0.04.
        assert share == pytest.approx(rate, abs=0.04)
    together = sum({4, 5} <= layers for layers in drawn) / len(drawn)
    assert together == pytest.approx(rates[4] * rates[5], abs=0.04)  # independent of one another


def test_a_single_layer_is_never_skipped() -> None:
    assert layer_dropout_rates(0.9, 1) == [0.0]
    assert not any(skipped_layers(Random(number), 0.9, 1) for number in range(100))


@pytest.mark.parametrize("value", [-0.1, 1.0, "nan"])
def test_rates_are_probabilities_below_one(value: object) -> None:
    with pytest.raises(ValueError, match="layer_dropout"):
        TrainSpec.model_validate({"updates": 1, "layer_dropout": value})


@pytest.mark.parametrize(
    ("preset", "overrides", "reason"),
    [
        (
            "digits-resnet",
            ["train.layer_dropout=0.1"],
            r"train\.layer_dropout: preact_resnet .* only bert, .*llama",
        ),
        (
            "imagenet-resnet50",
            ["train.layer_dropout=0.1"],
            r"train\.layer_dropout: resnet50 .* set it to 0",
        ),
        (
            "pydoc-llama",
            ["train.layer_dropout=0.1", "train.cuda_graphs=true"],
            r"train\.cuda_graphs: .* train\.layer_dropout to 0",
        ),
    ],
)
def test_layer_dropout_is_refused_where_it_cannot_be_done(
    preset: str, overrides: list[str], reason: str
) -> None:
    with pytest.raises(RequestError, match=reason):
        load_preset(preset, overrides)
    assert load_preset(preset, ["train.layer_dropout=0"]).train.layer_dropout == 0
