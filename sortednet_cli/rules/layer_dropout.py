"""Layer dropout: a micro-batch skips some layers, late ones more often than early ones."""

from __future__ import annotations

from random import Random


def layer_dropout_rates(highest: float, num_layers: int) -> list[float]:
    """Return the probability that a micro-batch skips each layer of a network.

    Of L layers, layer l from 0 has `highest * D(l)` with D(l) = exp(l ln 2 / (L - 1)) - 1, which
    grows exponentially from 0 to 1 (LayerSkip, arXiv 2404.16710, section 4.1; without its
    curriculum over time, which is for pretraining from scratch). A single layer has 0.
    """
    last = max(1, num_layers - 1)
    return [highest * (2 ** (layer / last) - 1) for layer in range(num_layers)]


def skipped_layers(random: Random, highest: float, num_layers: int) -> frozenset[int]:
    """Draw the layers that a micro-batch skips, each on its own, by their numbers from 0.

    Args:
        random: the only source of randomness.
        highest: the probability of the last layer.
        num_layers: of the root network. A shallower sub-model has the first of its layers.
    """
    rates = layer_dropout_rates(highest, num_layers)
    return frozenset(layer for layer, rate in enumerate(rates) if random.random() < rate)
