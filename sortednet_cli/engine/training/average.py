"""An exponential moving average of the root's weights, for scoring and for what a run stores."""

from __future__ import annotations

import torch
from torch import Tensor

from sortednet_cli.nesting import NestedNetwork


class WeightAverage:
    """The average of a network's parameters over its updates.

    After update t, the average moves towards the weights by 1 - min(decay, (1 + t) / (10 + t)), so
    that a short training does not remember its first weights. This is the formula of TensorFlow's
    `tf.train.ExponentialMovingAverage` with `num_updates`. The average begins as the weights after
    the first update. Weights that have never changed are their own average, bit for bit.

    Attributes:
        values: the average of each parameter, sharded as it is; empty before the first update.
    """

    def __init__(self, network: NestedNetwork, decay: float) -> None:
        self._network = network
        self._decay = decay
        self.values: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, update: int, skip: Tensor | None = None) -> None:
        """Add the weights after an update, counted from 1.

        Args:
            skip: a truth on the device; where it holds, nothing changes.
        """
        parameters = self._network.parameters
        if not self.values:
            self.values = {name: p.detach().clone() for name, p in parameters.items()}
            return
        step = 1 - min(self._decay, (1 + update) / (10 + update))
        averages = [self._network.local(self.values[name]) for name in parameters]
        weights = list(self._network.local_weights.values())
        if skip is None:
            torch._foreach_lerp_(averages, weights, step)
            return
        moves = torch._foreach_sub(weights, averages)
        torch._foreach_mul_(moves, torch.where(skip, 0.0, step))
        torch._foreach_add_(averages, moves)

    @torch.no_grad()
    def replace_weights(self) -> None:
        """Set the network's weights to their average; a training cannot go on from there."""
        weights = self._network.local_weights
        for name, average in self.values.items():
            weights[name].copy_(self._network.local(average))
