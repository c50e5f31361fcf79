"""The optimizer over the root's parameters, its schedule, and its state by name."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from sortednet_cli.errors import RequestError
from sortednet_cli.nesting import NestedNetwork, crossing_weights, spread
from sortednet_cli.space import SubModel
from sortednet_cli.spec import TrainSpec


class RootOptimizer:
    """Steps the root's parameters that an update touched, and no others.

    The policy, in one place:

    - A tensor that no micro-batch of the update touched is left alone: no step, no decay,
      no change of momentum.
    - A touched tensor is stepped whole. Rows outside every slice have zero gradient; decay
      and momentum act on them as on any parameter whose gradient is zero.
    - What lies beyond the largest sub-model that is open so far (`train.smallest_first`) is left
      alone: decay would wear down weights that have not begun to learn.
    - Crossing weights have `train.crossing_lr` of the learning rate.
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
        self.optimizer = _make(spec, [group for group in groups if group["params"]])
        self.crossing = {} if spec.crossing_lr == 1 else crossing_weights(network)
        self.opened = network.space.largest
        self._set_brakes()

    def step(self, touched: Collection[str], lr: float, opened: SubModel | None = None) -> None:
        """Take one step on the `touched` parameters at learning rate `lr`.

        Args:
            opened: holds every sub-model that has been trained so far; default the largest.
        """
        self.network.expose_gradients(touched)
        if self.spec.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters.values(), self.spec.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        opened = opened or self.network.space.largest
        if self.opened != opened:
            self.opened = opened
            self._set_brakes()
        braked = [name for name in self.brakes if name in touched]
        for name in braked:
            self.kept[name].copy_(self.parameters[name].detach())
        self.optimizer.step()
        for name in braked:
            self.parameters[name].detach().lerp_(self.kept[name], self.brakes[name])

    def _set_brakes(self) -> None:
        self.brakes = self._brakes()
        # Held from step to step: fresh memory of this size costs several times the arithmetic.
        self.kept = {name: torch.empty_like(self.parameters[name]) for name in self.brakes}

    def _brakes(self) -> dict[str, Tensor]:
        """Which part of its step each weight gives back, by parameter; whole steps have none.

        The step is cut, not the gradient: AdamW and RMSprop would scale a gradient back.
        """
        if not self.crossing and self.opened == self.network.space.largest:
            return {}
        shapes = {p.source: p.shape for p in self.network.plan(self.opened).slices.values()}
        brakes = {}
        for name, weight in self.parameters.items():
            pace = torch.ones([1] * weight.dim())
            if name in self.crossing:
                pace = spread(torch.where(self.crossing[name], self.spec.crossing_lr, 1.0), weight)
            for dim, (kept, size) in enumerate(
                zip(shapes.get(name, ()), weight.shape, strict=False)
            ):
                if kept < size:
                    inside = torch.arange(size) < kept
                    pace = pace * inside.view(-1, *[1] * (weight.dim() - dim - 1))
            if pace.min() < 1:
                brakes[name] = (1 - pace).to(weight)
        return brakes

    def state(self) -> dict[str, Tensor]:
        """Optimizer state as `parameter/key` tensors."""
        return {
            f"{name}/{key}": torch.as_tensor(value)
            for name, parameter in self.parameters.items()
            for key, value in self.optimizer.state.get(parameter, {}).items()
            if value is not None
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for path, value in state.items():
            name, _, key = path.rpartition("/")
            parameter = self.parameters.get(name)
            if parameter is None or (value.ndim and value.shape != parameter.shape):
                raise RequestError(
                    "optimizer.safetensors of the checkpoint does not belong here:"
                    f" {path!r} fits no parameter"
                )
            own = value.to(parameter.device)
            if value.ndim:
                # Files know no memory format, and a fused kernel pairs elements as they lie.
                own = torch.empty_like(parameter, dtype=value.dtype).copy_(own)
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


def _make(spec: TrainSpec, groups: list[dict[str, object]]) -> torch.optim.Optimizer:
    # Fused: one kernel reads and writes each weight once. SGD's wants momentum for all or none
    # of its tensors, which a first step on some of them breaks; RMSprop has none.
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=spec.lr, fused=True)
    if spec.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=spec.lr, alpha=0.9, momentum=spec.momentum)
    return torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum, nesterov=spec.momentum > 0)


def place(module: nn.Module, device: torch.device, channels_last: bool) -> nn.Module:
    """Move a root network to its device and memory format, before any view is made."""
    module.to(device)
    if channels_last:
        module.to(memory_format=torch.channels_last)
    return module
