"""One micro-batch: the gradients of its sub-models, added to the network's.

Knows passes, losses and a teacher; neither data nor optimizer, nor what other processes do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from sortednet_cli.data import Batch
from sortednet_cli.engine.training.teacher import FixedTeacher
from sortednet_cli.families import Inputs, SharedPass
from sortednet_cli.machine.graphs import PassGraphs
from sortednet_cli.machine.memory import describe_pass, enough_memory
from sortednet_cli.machine.precision import in_bf16
from sortednet_cli.nesting import NestedNetwork, compiling
from sortednet_cli.rules import Share
from sortednet_cli.space import SubModel
from sortednet_cli.spec import TrainSpec
from sortednet_cli.tasks import Targets, Task
from sortednet_cli.tasks.chunks import chunks

_LOWER = "lower train.batch_size and raise train.accumulate as much, or take train.precision=bf16"


@dataclass(frozen=True)
class SubModelLoss:
    """The weighted loss of one sub-model on one batch of this process."""

    submodel: SubModel
    batch: int
    loss: Tensor


@dataclass(frozen=True)
class MicroBatches:
    """Trains micro-batches of one network and task.

    Attributes:
        per_update: micro-batches of an update over all processes; each has its share of the loss.
        sums_losses: whether the losses of a micro-batch are summed, not averaged.
        graphs: what records passes and replays them, if anything does.
        teacher: another network that teaches all sub-models, if there is one.
    """

    network: NestedNetwork
    task: Task
    spec: TrainSpec
    per_update: int = 1
    sums_losses: bool = False
    graphs: PassGraphs | None = None
    teacher: FixedTeacher | None = None

    def add_gradients(
        self,
        batch: Batch,
        drawn: Sequence[Share],
        number: int = 0,
        skipped: Collection[int] = (),
    ) -> list[SubModelLoss]:
        """Add the gradients of the sub-models that were `drawn`; return their losses.

        Args:
            number: of the batch in the training, for messages.
            skipped: numbers of the layers that no sub-model runs; a teacher that is asked on its
                own runs them.

        Raises:
            WorkError: a pass lacked memory, or its compilation failed.
        """
        inputs, given = batch
        targets = self.task.targets(given, self.network.device)
        # The weights of a draw sum to one; a sum of losses gives each loss a weight of one.
        scale = (len(drawn) if self.sums_losses else 1) / self.per_update
        weights = {submodel: weight * scale for submodel, weight in drawn}
        teacher = self._teacher_beforehand(inputs, targets, drawn)
        losses = []
        for group in self.network.groups(list(weights)):
            own = {submodel: weights[submodel] for submodel in group}
            self.network.check_sharing(group[0])
            with self._may_fail(group, len(given)):
                work = partial(self._pass, own, skipped)
                found = self._run(tuple(own.items()), work, inputs, targets, teacher)
            teacher = teacher or found[len(group) :]
            pairs = zip(group, found[: len(group)], strict=True)
            losses += [SubModelLoss(submodel, number, loss) for submodel, loss in pairs]
        return losses

    def _teacher_beforehand(
        self, inputs: Inputs, targets: Targets, drawn: Sequence[Share]
    ) -> list[Tensor]:
        """The teacher's logits by chunk; none where it is trained first, or there is none."""
        largest = self.network.space.largest
        if self.teacher is not None:
            with self._may_fail([largest], self.spec.batch_size):
                return self._run("teacher", self._ask, inputs, targets)
        if not self.spec.distill or drawn[0][0] == largest:
            return []
        with self._may_fail([largest], self.spec.batch_size):
            return self._run("teacher", partial(self._teach, largest), inputs, targets)

    def _run(self, key: Hashable, work: Callable[..., list[Tensor]], *inputs: Any) -> list[Tensor]:
        """Run a pass, or replay it if it was recorded; `key` tells passes apart."""
        return work(*inputs) if self.graphs is None else self.graphs.run(key, work, *inputs)

    def _pass(
        self,
        weights: Mapping[SubModel, float],
        skipped: Collection[int],
        inputs: Inputs,
        targets: Targets,
        teacher: Sequence[Tensor],
    ) -> list[Tensor]:
        """Train what one pass serves, the deepest sub-model first.

        States are cut off from the graph a chunk of rows at a time, each chunk collects the
        gradient of its logits, and one backward pass takes them all through the body.

        Returns:
            The weighted losses; then the largest sub-model's logits by chunk, if it teaches here.
        """
        group = list(weights)
        shared = self.network.shared_pass(group, training=True)
        if skipped:
            shared.skip(skipped)
        tails = _Tails(self, shared, group, weights, teacher)
        with self.network.collecting(group):
            self.network.run(partial(self._forward, shared, inputs, targets, tails))
            torch.autograd.backward(tails.states, tails.gradients)
        return [*tails.losses, *tails.taught]

    def _forward(
        self, shared: SharedPass, inputs: Inputs, targets: Targets, tails: _Tails
    ) -> list[Tensor]:
        """Run body and tails; return what the body made, by which FSDP finds its backward pass."""
        # One context for both: a weight is cast once, not for each chunk and exit.
        with self._autocast():
            outputs = shared.states(inputs)
            tails.run([self.task.scored(states, targets) for states in outputs], targets.values)
        return outputs

    def _ask(self, inputs: Inputs, targets: Targets) -> list[Tensor]:
        """The fixed teacher's logits, in chunks."""
        assert self.teacher is not None
        with self._autocast():
            return self.teacher.logits(self.task, inputs, targets)

    @torch.no_grad()
    def _teach(self, largest: SubModel, inputs: Inputs, targets: Targets) -> list[Tensor]:
        """The largest sub-model's logits, in chunks."""
        shared = self.network.shared_pass([largest], training=True)

        def forward() -> list[Tensor]:
            with self._autocast():
                (states,) = shared.states(inputs)
                scored = self.task.scored(states, targets)
                pieces = chunks(len(scored), self.task.num_outputs)
                return [shared.logits(0, scored[rows]).float() for rows in pieces]

        return self.network.run(forward)

    @contextmanager
    def _may_fail(self, group: Sequence[SubModel], num_samples: int) -> Iterator[None]:
        """Tell what a pass lacked: memory, or a compiler."""
        compiler: AbstractContextManager[None] = compiling() if self.spec.compile else nullcontext()
        with enough_memory(describe_pass(group, num_samples), _LOWER), compiler:
            yield

    def _autocast(self) -> torch.autocast:
        # What a cast remembers is as large as the weights: not where they do not fit.
        return torch.autocast(
            self.network.device.type,
            dtype=torch.bfloat16,
            enabled=in_bf16(self.spec.precision, self.network.device),
            cache_enabled=not self.network.sharded,
        )


@dataclass
class _Tails:
    """The tails of one pass, an entry for each sub-model of its group.

    Attributes:
        states: of the rows that are scored, [N, C], with their graph.
        gradients: of the losses with respect to the states.
        losses: weighted, without a graph.
        taught: the largest sub-model's logits by chunk, if it is in the group and teaches.
    """

    owner: MicroBatches
    shared: SharedPass
    group: Sequence[SubModel]
    weights: Mapping[SubModel, float]
    teacher: Sequence[Tensor]
    states: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    taught: list[Tensor] = field(default_factory=list)
    _pieces: list[list[Tensor]] = field(default_factory=list)

    def run(self, states: list[Tensor], wanted: Tensor) -> None:
        """Add the exits' losses, a chunk of logits at a time, so that few logits exist at once."""
        self.states, self._pieces = states, [[] for _ in self.group]
        self.losses = [torch.zeros((), device=self.owner.network.device) for _ in self.group]
        for chunk, rows in enumerate(chunks(len(wanted), self.owner.task.num_outputs)):
            for number in range(len(self.group)):
                logits = self._logits(number, rows)
                self.losses[number] += self._add(logits, number, chunk, wanted[rows], len(wanted))
        if not len(wanted):  # gradients of zero, so that all processes have the same to sum
            for number in range(len(self.group)):
                self._backward(self._logits(number, slice(0, 0)).sum())
        self.gradients = [_joined([cast(Tensor, p.grad) for p in own]) for own in self._pieces]

    def _logits(self, number: int, rows: slice) -> Tensor:
        self._pieces[number].append(self.states[number].detach()[rows].requires_grad_())
        return self.shared.logits(number, self._pieces[number][-1]).float()

    def _add(
        self, logits: Tensor, number: int, chunk: int, wanted: Tensor, num_rows: int
    ) -> Tensor:
        """Run the backward pass of one chunk of logits; return its part of the weighted loss."""
        owner, submodel = self.owner, self.group[number]
        # A teacher that is trained itself learns from the labels alone.
        is_largest = submodel == owner.network.space.largest
        is_teacher = is_largest and owner.teacher is None
        teacher = self.teacher or self.taught
        learns_from = None if is_teacher or not teacher else teacher[chunk]
        spec = owner.spec
        loss = owner.task.loss(logits, wanted, learns_from, spec.teacher_share, spec.temperature)
        part = loss * (self.weights[submodel] * len(wanted) / num_rows)
        self._backward(part)
        if spec.distill and is_teacher:
            self.taught.append(logits.detach())
        return part.detach()

    def _backward(self, loss: Tensor) -> None:
        """Run backward as torch asks for it, outside of autocast, while its casts are kept."""
        with torch.autocast(self.owner.network.device.type, enabled=False):
            loss.backward()  # type: ignore[no-untyped-call]


def _joined(gradients: list[Tensor]) -> Tensor:
    return gradients[0] if len(gradients) == 1 else torch.cat(gradients)
