"""The optimizer over the root's parameters, its schedule, and its state by name."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from sortednet_cli.errors import RequestError
from sortednet_cli.nesting import NestedNetwork, crossing_weights, spread
from sortednet_cli.spec import TrainSpec


class RootOptimizer:
    """Steps the root's parameters that an update touched, and no others.

    The policy, in one place:

    - A tensor that no micro-batch of the update touched is left alone: no step, no decay,
      no change of momentum.
    - A touched tensor is stepped whole. Rows outside every slice have zero gradient; decay
      and momentum act on them as on any parameter whose gradient is zero.
    - Weights that lead from channels of wider sub-models alone into channels of narrower ones go
      `train.crossing_lr` of the way that the step, decay included, would take them.
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
        # A sharded network has depths alone, so that no weight crosses.
        whole = spec.crossing_lr == 1 or network.sharded
        self.paces = {} if whole else self._crossing_paces()

    def step(self, touched: Collection[str], lr: float) -> None:
        """Take one step on the `touched` parameters at learning rate `lr`."""
        self.network.expose_gradients(touched)
        if self.spec.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters.values(), self.spec.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        before = {
            name: self.parameters[name].detach().clone() for name in self.paces if name in touched
        }
        self.optimizer.step()
        for name, old in before.items():
            weight = self.parameters[name].detach()
            weight.copy_(torch.lerp(old, weight, self.paces[name]))

    def _crossing_paces(self) -> dict[str, Tensor]:
        """Which part of its step each weight takes: [out, in, 1, ...] by parameter.

        A step is cut, not a gradient: AdamW and RMSprop would scale a gradient back.
        """
        return {
            name: spread(torch.where(mask, self.spec.crossing_lr, 1.0), self.parameters[name])
            for name, mask in crossing_weights(self.network).items()
        }

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
