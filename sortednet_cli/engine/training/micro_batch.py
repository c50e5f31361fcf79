"""One micro-batch: the gradients of its sub-models, added to the network's.

Knows passes, losses and a teacher; neither data nor optimizer, nor what other processes do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sortednet_cli.data import Batch
from sortednet_cli.engine.training.tails import Tails
from sortednet_cli.engine.training.teacher import FixedTeacher
from sortednet_cli.engine.training.teaching import (
    Lessons,
    Size,
    Teacher,
    all_from,
    larger_first,
    lessons_of,
    next_larger,
    product_of_axes,
)
from sortednet_cli.families import Inputs, SharedPass
from sortednet_cli.machine.compiler import compiling
from sortednet_cli.machine.graphs import PassGraphs
from sortednet_cli.machine.memory import describe_pass, enough_memory
from sortednet_cli.machine.precision import in_bf16
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.rules import Share
from sortednet_cli.space import SubModel
from sortednet_cli.spec import TrainSpec
from sortednet_cli.tasks import Targets, Task
from sortednet_cli.tasks.chunks import training_chunks

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
        size: what `train.distill = "next"` orders sub-models by.
    """

    network: NestedNetwork
    task: Task
    spec: TrainSpec
    per_update: int = 1
    sums_losses: bool = False
    graphs: PassGraphs | None = None
    teacher: FixedTeacher | None = None
    size: Size = product_of_axes

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
        if self.spec.distill == "next":
            drawn = larger_first(drawn)
        # The weights of a draw sum to one; a sum of losses gives each loss a weight of one.
        scale = (len(drawn) if self.sums_losses else 1) / self.per_update
        weights = {submodel: weight * scale for submodel, weight in drawn}
        teaching = self._teaching(list(weights))
        logits = self._logits_beforehand(inputs, targets, teaching, list(weights), len(given))
        losses = []
        for group in self.network.groups(list(weights)):
            own = {submodel: weights[submodel] for submodel in group}
            lessons = lessons_of(group, teaching)
            known = {teacher: logits[teacher] for _, teacher in lessons.pairs if teacher in logits}
            self.network.check_sharing(group[0])
            with self._may_fail(group, len(given)):
                work = partial(self._pass, own, lessons, skipped)
                key = (tuple(own.items()), lessons)
                found = self._run(key, work, inputs, targets, known)
            pairs = zip(group, found[: len(group)], strict=True)
            losses += [SubModelLoss(submodel, number, loss) for submodel, loss in pairs]
            logits |= _divided(found[len(group) :], lessons.kept)
        return losses

    def _teaching(self, drawn: Sequence[SubModel]) -> dict[SubModel, Teacher]:
        """Who teaches whom; all others learn from the labels alone."""
        if self.teacher is not None:
            return all_from("fixed", drawn)
        if self.spec.distill == "next":
            return next_larger(drawn, self.size)
        return all_from(self.network.space.largest, drawn) if self.spec.distill else {}

    def _logits_beforehand(
        self,
        inputs: Inputs,
        targets: Targets,
        teaching: Mapping[SubModel, Teacher],
        drawn: Sequence[SubModel],
        num_samples: int,
    ) -> dict[Teacher, list[Tensor]]:
        """The logits by chunk of a teacher that is not among those drawn."""
        largest = self.network.space.largest
        logits: dict[Teacher, list[Tensor]] = {}
        for teacher in set(teaching.values()) - set(drawn):
            work = self._ask if teacher == "fixed" else partial(self._teach, largest)
            asked = ["the teacher"] if teacher == "fixed" else [largest]
            with self._may_fail(asked, num_samples):
                logits[teacher] = self._run("teacher", work, inputs, targets)
        return logits

    def _run(self, key: Hashable, work: Callable[..., list[Tensor]], *inputs: Any) -> list[Tensor]:
        """Run a pass, or replay it if it was recorded; `key` tells passes apart."""
        return work(*inputs) if self.graphs is None else self.graphs.run(key, work, *inputs)

    def _pass(
        self,
        weights: Mapping[SubModel, float],
        lessons: Lessons,
        skipped: Collection[int],
        inputs: Inputs,
        targets: Targets,
        known: Mapping[Teacher, Sequence[Tensor]],
    ) -> list[Tensor]:
        """Train what one pass serves, the deepest sub-model first.

        States are cut off from the graph a chunk of rows at a time, each chunk collects the
        gradient of its logits, and one backward pass takes them all through the body.

        Returns:
            The weighted losses; then the logits by chunk of each sub-model that is `kept`.
        """
        group = list(weights)
        shared = self.network.shared_pass(group, training=True)
        if skipped:
            shared.skip(skipped)
        tails = Tails(self.task, self.spec, shared, group, weights, lessons, known)
        with self.network.collecting(group):
            self.network.run(partial(self._forward, shared, inputs, targets, tails))
            torch.autograd.backward(tails.states, tails.gradients)
        return [*tails.losses, *(piece for own in tails.taught.values() for piece in own)]

    def _forward(
        self, shared: SharedPass, inputs: Inputs, targets: Targets, tails: Tails
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
                pieces = training_chunks(len(scored), self.task.num_outputs)
                return [shared.logits(0, scored[rows]).float() for rows in pieces]

        return self.network.run(forward)

    @contextmanager
    def _may_fail(self, group: Sequence[object], num_samples: int) -> Iterator[None]:
        """Tell what a pass lacked: memory, or a compiler."""
        compiler: AbstractContextManager[None] = nullcontext()
        if self.spec.compile:
            compiler = compiling("train.compile", "train without it")
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


def _divided(pieces: Sequence[Tensor], among: Sequence[SubModel]) -> dict[Teacher, list[Tensor]]:
    """Divide chunks of logits among the sub-models that they are of, in order."""
    count = len(pieces) // max(1, len(among))
    return {s: list(pieces[n * count : (n + 1) * count]) for n, s in enumerate(among)}
