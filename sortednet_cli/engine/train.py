"""The training loop: a generator of updates. It neither logs nor saves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from sortednet_cli.data import Batch, Dataset
from sortednet_cli.engine.chunks import chunks
from sortednet_cli.engine.optimizer import RootOptimizer, learning_rate
from sortednet_cli.errors import WorkError
from sortednet_cli.families import Inputs
from sortednet_cli.nesting import NestedNetwork, Rule
from sortednet_cli.seeds import stream_seed
from sortednet_cli.space import SubModel
from sortednet_cli.spec import TrainSpec
from sortednet_cli.tasks import Task


@dataclass(frozen=True)
class Update:
    """One finished update: its number from 1, mean loss, and the sub-models it trained."""

    number: int
    loss: Tensor
    lr: float
    submodels: tuple[SubModel, ...]


@dataclass
class Trainer:
    """What an update needs; holds no state that a checkpoint would have to keep."""

    network: NestedNetwork
    task: Task
    rule: Rule
    data: Dataset
    optimizer: RootOptimizer
    spec: TrainSpec
    total: int

    def updates(self, start: int, stopped: Callable[[], bool]) -> Iterator[Update]:
        """Run the updates after the first `start`, until the last or until `stopped()`.

        An update that is cut short by `stopped` changes nothing.
        """
        batches = self.data.training_batches(
            start * self.spec.accumulate,
            batch_size=self.spec.batch_size,
            seed=self.spec.seed,
            device=self.network.device,
        )
        for index in range(start, self.total):
            self.network.zero_gradients()
            loss = torch.zeros((), device=self.network.device)
            drawn: list[SubModel] = []
            for micro in range(self.spec.accumulate):
                if stopped():
                    return
                random = Random(stream_seed(self.spec.seed, "rule", index, micro))
                torch.manual_seed(stream_seed(self.spec.seed, "dropout", index, micro))
                shares = self.rule.draw(random)
                loss += self._micro_batch(next(batches), shares)
                drawn += [submodel for submodel, _ in shares]
            lr = learning_rate(self.spec, index, self.total)
            self._step(drawn, lr)
            yield Update(index + 1, loss, lr, tuple(dict.fromkeys(drawn)))

    def _micro_batch(self, batch: Batch, shares: list[tuple[SubModel, float]]) -> Tensor:
        """Add the gradients of one micro-batch; return its share of the update's loss."""
        inputs, targets = batch
        weights = {submodel: weight / self.spec.accumulate for submodel, weight in shares}
        largest = self.network.space.largest
        teacher: list[Tensor] = []
        if self.spec.distill and shares[0][0] != largest:
            teacher = self._teach(largest, inputs, targets)
        mean = torch.zeros((), device=self.network.device)
        for group in self.network.groups(list(weights)):
            mean += self._pass(group, weights, batch, teacher)
        return mean

    def _pass(
        self,
        group: list[SubModel],
        weights: Mapping[SubModel, float],
        batch: Batch,
        teacher: list[Tensor],
    ) -> Tensor:
        """Train what one pass serves, the deepest sub-model first; return the weighted loss.

        States are cut off from the graph, each collects the gradients of its logits a chunk at
        a time, and one backward pass takes them all through the body. `teacher` holds the
        teacher's logits by chunk, and is filled where the teacher itself is trained.
        """
        inputs, targets = batch
        shared = self.network.shared_pass(group, training=True)
        self.network.check_sharing(group[0])
        with self._autocast():
            exits = shared.states(inputs)
        picked = [self.task.scored(states, targets) for states in exits]
        states, wanted = [state for state, _ in picked], picked[0][1]
        leaves = [state.detach().requires_grad_() for state in states]
        mean = torch.zeros((), device=self.network.device)
        for chunk, rows in enumerate(chunks(len(wanted), self.task.num_outputs)):
            for number, (submodel, leaf) in enumerate(zip(group, leaves, strict=True)):
                with self._autocast():
                    logits = shared.logits(number, leaf[rows]).float()
                # The teacher itself learns from the labels, all others from the teacher.
                is_teacher = submodel == self.network.space.largest
                learns_from = None if is_teacher or not teacher else teacher[chunk]
                loss = self.task.loss(logits, wanted[rows], learns_from)
                share = loss * (weights[submodel] * (rows.stop - rows.start) / len(wanted))
                share.backward()
                mean += share.detach()
                if self.spec.distill and is_teacher:
                    teacher.append(logits.detach())
        if len(wanted):
            torch.autograd.backward(states, [leaf.grad for leaf in leaves])
        return mean

    @torch.no_grad()
    def _teach(self, largest: SubModel, inputs: Inputs, targets: Tensor) -> list[Tensor]:
        """The largest sub-model's logits, in chunks."""
        shared = self.network.shared_pass([largest], training=True)
        with self._autocast():
            (states,) = shared.states(inputs)
            scored, wanted = self.task.scored(states, targets)
            pieces = chunks(len(wanted), self.task.num_outputs)
            return [shared.logits(0, scored[rows]).float() for rows in pieces]

    def _step(self, drawn: list[SubModel], lr: float) -> None:
        touched: set[str] = set()
        for submodel in drawn:
            touched |= self.network.plan(submodel).sources
        self.optimizer.step(touched, lr)

    def _autocast(self) -> torch.autocast:
        kind = self.network.device.type
        enabled = self.spec.precision == "bf16" or (
            self.spec.precision == "auto" and kind == "cuda"
        )
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=enabled)


def total_updates(spec: TrainSpec, batches_per_epoch: int) -> int:
    """The number of updates that `updates` or `epochs` of a spec mean, at least one."""
    if spec.updates is not None:
        return spec.updates
    assert spec.epochs is not None
    return max(1, round(spec.epochs * batches_per_epoch / spec.accumulate))


def check_finite(loss: float, update: int) -> None:
    """WorkError if training has diverged."""
    if not loss < float("inf"):
        raise WorkError(f"the loss is {loss} at update {update}: training diverged; lower train.lr")


def check_weights(network: NestedNetwork, update: int) -> None:
    """WorkError if weights are no numbers any more: no checkpoint is to hold them."""
    for name, weight in network.parameters.items():
        if not bool(torch.isfinite(weight).all()):
            raise WorkError(
                f"{name} is not finite after update {update}: training diverged; lower train.lr"
            )
