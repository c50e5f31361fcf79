"""The optimizer over the root's parameters, its schedule, and its state by name."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from sortednet_cli.engine.training.average import WeightAverage
from sortednet_cli.engine.training.rates import rare_rates
from sortednet_cli.errors import RequestError
from sortednet_cli.nesting import NestedNetwork, TensorSlice, broadcast_mask, crossing_weights
from sortednet_cli.space import SubModel
from sortednet_cli.spec import TrainSpec

_MOMENTA = ("momentum_buffer", "exp_avg")
_MEAN_SQUARES = ("exp_avg_sq", "square_avg")
"""What torch's optimizers call their running means of gradients, and of squared gradients."""
_AVERAGE = "average"
"""The name of a parameter's average beside them."""


class RootOptimizer:
    """Steps the root's parameters that an update touched, and no others.

    The policy, in one place:

    - A tensor that no micro-batch of the update touched is left alone: no step, no decay,
      no change of momentum.
    - A touched tensor is stepped whole. Rows outside every slice have zero gradient; decay
      and momentum act on them as on any parameter whose gradient is zero.
    - What lies beyond the largest sub-model that is open so far (`train.smallest_first`) is left
      alone: decay would wear down weights that have not begun to learn. When it opens, it has no
      momentum, and the mean square gradient of the weights that were open in its tensor: a first
      step is then no larger than theirs.
    - Crossing weights have `train.crossing_lr` of the learning rate, weights that few draws train
      up to `train.rare_lr` times it.
    - `train.decay = "weights"` decays tensors of two or more dimensions (not norms and
      biases), `"all"` decays everything.
    """

    def __init__(self, network: NestedNetwork, spec: TrainSpec) -> None:
        self.network = network
        self.spec = spec
        self.parameters = network.parameters
        decayed: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for parameter in self.parameters.values():
            is_weight = parameter.ndim >= 2 or spec.decay == "all"
            (decayed if is_weight else plain).append(parameter)
        groups = [
            {"params": decayed, "weight_decay": spec.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimizer = _make(
            spec, [group for group in groups if group["params"]], fused=not network.sharded
        )
        self.skips_on_device = network.device.type != "cpu" and bool(
            self.optimizer.defaults.get("fused")  # RMSprop has no such kernel
        )
        if spec.optimizer == "sgd" and spec.momentum:
            # The fused kernel wants momentum for all of its tensors or for none of them.
            for parameter in self.parameters.values():
                self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        self.crossing = {} if spec.crossing_lr == 1 else crossing_weights(network)
        self.opened = network.space.largest
        self._set_masks()
        self.average = WeightAverage(network, spec.average) if spec.average else None

    def open(self, opened: SubModel, before: SubModel) -> None:
        """Say which sub-model holds all that is open for the next step, and for the one before."""
        if opened != before:
            self._begin(self._slices(opened), self._slices(before))
        if opened != self.opened:
            self.opened = opened
            self._set_masks()

    def step(self, touched: Collection[str], lr: float, skip: Tensor | None = None) -> None:
        """Take one step on the `touched` parameters at learning rate `lr`.

        Args:
            skip: a truth on the device; where it holds, nothing changes. Read only if
                `skips_on_device`, and there without waiting for the device.
        """
        self.network.expose_gradients(touched)
        if self.spec.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters.values(), self.spec.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if self.skips_on_device and skip is not None:
            # What a gradient scaler tells a fused kernel: leave weights, state and step count.
            self.optimizer.found_inf = skip.float()  # type: ignore[attr-defined]
        masked = [name for name in self.step_masks if name in touched]
        weights = [self.parameters[name].detach() for name in masked]
        before = [self.before[name] for name in masked]
        if masked:
            torch._foreach_copy_(before, weights)
        self.optimizer.step()
        if masked:
            torch._foreach_lerp_(weights, before, [self.step_masks[name] for name in masked])

    def add_to_average(self, update: int, skip: Tensor | None = None) -> None:
        """Add the weights after an update to their average, if there is one; see `step`."""
        if self.average is not None:
            self.average.add(update, skip if self.skips_on_device else None)

    def _set_masks(self) -> None:
        self.step_masks = self._masks()
        # Held from step to step: fresh memory of this size costs several times the arithmetic.
        self.before = {name: torch.empty_like(self.parameters[name]) for name in self.step_masks}

    def _masks(self) -> dict[str, Tensor]:
        """Make the step masks: the share of its step that each weight takes back, by parameter.

        It is negative for a weight that takes a larger step.

        A parameter whose weights all take whole steps has no mask. The step is masked, not the
        gradient: AdamW and RMSprop divide by its size, so that a smaller one changes nothing.
        """
        rare = rare_rates(self.network, self.spec, self.opened)
        if not self.crossing and not rare and self.opened == self.network.space.largest:
            return {}
        slices = self._slices(self.opened)
        masks = {}
        for name, weight in self.parameters.items():
            taken = torch.ones([1] * weight.dim())
            if name in self.crossing:
                taken = broadcast_mask(
                    torch.where(self.crossing[name], self.spec.crossing_lr, 1.0), weight
                )
            if name in rare:
                taken = taken * rare[name]
            if name in slices and slices[name].shape != weight.shape:
                taken = taken * slices[name].mask(weight.shape)
            if (taken != 1).any():
                masks[name] = self._like(weight, (1 - taken).to(weight))
        return masks

    def _like(self, weight: Tensor, mask: Tensor) -> Tensor:
        """A mask in a form that one kernel takes for many tensors, where launches are what costs.

        A CPU has no such kernel, and reads a small mask faster.
        """
        if self.network.sharded or weight.device.type == "cpu":
            return mask
        return torch.empty_like(weight, requires_grad=False).copy_(mask)

    def _slices(self, submodel: SubModel) -> dict[str, TensorSlice]:
        """The slice that a sub-model has of each root tensor that it has."""
        return {piece.source: piece for piece in self.network.plan(submodel).slices.values()}

    @torch.no_grad()
    def _begin(self, opened: Mapping[str, TensorSlice], before: Mapping[str, TensorSlice]) -> None:
        """Give weights that open the state of new ones; they have collected decay, or nothing."""
        for name, old in before.items():
            parameter = self.parameters.get(name)
            if parameter is None or opened.get(name, old) == old:
                continue
            new = opened[name].mask(parameter.shape) & ~old.mask(parameter.shape)
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if key in _MEAN_SQUARES:
                    known = old.of(value).mean()
                    value.masked_fill_(new.to(value.device), known)
                elif key in _MOMENTA and value is not None:
                    value.masked_fill_(new.to(value.device), 0)

    def state(self) -> dict[str, Tensor]:
        """Optimizer state, and the average of the weights, as `parameter/key` tensors."""
        averages = {} if self.average is None else self.average.values
        return {
            f"{name}/{key}": torch.as_tensor(value)
            for name, parameter in self.parameters.items()
            for key, value in self.optimizer.state.get(parameter, {}).items()
            if value is not None
        } | {f"{name}/{_AVERAGE}": value for name, value in averages.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for path, value in state.items():
            name, _, key = path.rpartition("/")
            parameter = self.parameters.get(name)
            if parameter is None or (value.ndim and value.shape != parameter.shape):
                raise RequestError(
                    "optimizer.safetensors of the checkpoint does not belong here:"
                    f" {path!r} fits no parameter"
                )
            # Copies: what was read keeps its file mapped, whose room is then not free once it is
            # removed, and which Windows does not remove.
            if value.ndim:
                # Files know no memory format, and a fused kernel pairs elements as they lie.
                own = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            else:
                own = value.to(parameter.device, copy=True)
            if key == _AVERAGE and self.average is not None:
                self.average.values[name] = own.detach()
            else:
                self.optimizer.state[parameter][key] = own.detach()


def learning_rate(spec: TrainSpec, update: int, total: int) -> float:
    """The learning rate of an update: linear warm-up, then the schedule."""
    warmup = round(spec.warmup * total)
    if update < warmup:
        return spec.lr * (update + 1) / (warmup + 1)
    progress = (update - warmup) / max(1, total - warmup)
    if spec.schedule == "cosine":
        return spec.lr * 0.5 * (1 + math.cos(math.pi * progress))
    if spec.schedule == "exponential":
        return float(spec.lr * spec.lr_end**progress)
    if spec.schedule == "step":
        return spec.lr * 0.1 ** sum(update / total >= drop for drop in spec.lr_drops)
    return spec.lr


def _make(spec: TrainSpec, groups: list[dict[str, object]], fused: bool) -> torch.optim.Optimizer:
    # Fused: one kernel reads and writes each weight once. RMSprop has none, and SGD's does not
    # take tensors in parts.
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=spec.lr, fused=True)
    momentum = spec.momentum
    if spec.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=spec.lr, alpha=0.9, momentum=momentum)
    return torch.optim.SGD(
        groups, lr=spec.lr, momentum=momentum, nesterov=momentum > 0, fused=fused
    )
