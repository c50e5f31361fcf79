"""The training loop: a generator of updates. It neither logs nor saves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from random import Random
from typing import cast

import torch
from torch import Tensor

from sortednet_cli.data import Batch, Dataset
from sortednet_cli.distributed.processes import ALONE, Processes
from sortednet_cli.engine.training.nonfinite import LossWatch, Part
from sortednet_cli.engine.training.optimizer import RootOptimizer, learning_rate
from sortednet_cli.families import Inputs, SharedPass
from sortednet_cli.machine.memory import enough_memory, pass_of
from sortednet_cli.machine.precision import in_bf16, seed_generators
from sortednet_cli.nesting import NestedNetwork, Phases, Rule, Share, compiling
from sortednet_cli.seeds import stream_seed
from sortednet_cli.space import SubModel
from sortednet_cli.spec import TrainSpec
from sortednet_cli.tasks import Task
from sortednet_cli.tasks.chunks import chunks

SMALLER = "take a smaller model.config, or more memory"
_LOWER = "lower train.batch_size and raise train.accumulate as much, or take train.precision=bf16"


@dataclass(frozen=True)
class Position:
    """How far a training has come: whole updates, and the batches of all processes in them."""

    update: int = 0
    batches: int = 0


@dataclass(frozen=True)
class Update:
    """One finished update.

    Attributes:
        position: what has been done with it.
        loss: mean over its micro-batches, of all processes.
        submodels: what was trained in it.
        save: whether a checkpoint is due, as all processes agree.
    """

    position: Position
    loss: Tensor
    lr: float
    submodels: tuple[SubModel, ...]
    save: bool

    @property
    def number(self) -> int:
        """Its number, from 1."""
        return self.position.update


@dataclass
class Trainer:
    """What an update needs; holds no state that a checkpoint would have to keep.

    Of an update's micro-batches, numbered over all processes, a process takes every
    `processes.count`-th: so N processes do what one does that takes N times as many.
    """

    network: NestedNetwork
    task: Task
    rule: Rule
    data: Dataset
    optimizer: RootOptimizer
    spec: TrainSpec
    processes: Processes = ALONE

    def __post_init__(self) -> None:
        self.watch = LossWatch(self.spec.max_nonfinite)

    @property
    def batches_each(self) -> int:
        """Micro-batches of one update, on all processes."""
        return self.spec.accumulate * self.processes.count

    def total(self, start: Position) -> int:
        """Number of the last update of a training that goes on from `start`."""
        if self.spec.updates is not None:
            return self.spec.updates
        whole = total_updates(
            self.spec, self.data.batches_per_epoch(self.spec.batch_size), self.processes.count
        )
        return start.update + max(0, whole - start.batches // self.batches_each)

    def updates(
        self,
        start: Position,
        stopped: Callable[[], bool],
        due: Callable[[], bool] = lambda: False,
    ) -> Iterator[Update]:
        """Run the updates after `start`, until the last or until `stopped()` in any process.

        An update that is cut short by `stopped` changes nothing.

        Raises:
            WorkError: memory ran out, or losses were no numbers.
        """
        batches = self.data.training_batches(
            start.batches + self.processes.rank,
            batch_size=self.spec.batch_size,
            seed=self.spec.seed,
            device=self.network.device,
            stride=self.processes.count,
        )
        total = self.total(start)
        # Under another number of processes, the schedule goes on from the share of data seen.
        offset = 0
        if self.spec.updates is None:
            offset = start.batches // self.batches_each - start.update
        done = start
        for index in range(start.update, total):
            self.network.zero_gradients()
            parts: list[Part] = []
            cut = False
            progress = (index + offset) / (total + offset)
            for micro in range(self.spec.accumulate):
                cut = cut or stopped()
                if not cut:
                    first = done.batches + micro * self.processes.count
                    shares = self._draw(index, micro, self.processes.rank, progress)
                    rank = self.processes.rank
                    stream = micro * self.processes.count + rank
                    seed = stream_seed(self.spec.seed, "dropout", index, stream)
                    seed_generators(self.network.device, seed)
                    number = first + self.processes.rank
                    parts += self._micro_batch(number, next(batches), shares)
            stop, save = self.processes.any(cut, due())
            if stop:
                return
            loss = self._exchange(parts)
            done = Position(index + 1, done.batches + self.batches_each)
            self.watch.note(done.update, loss, parts)
            lr = learning_rate(self.spec, index + offset, total + offset)
            drawn = self._drawn(index, progress)
            if isinstance(self.rule, Phases):
                before = max(0, index + offset - 1) / (total + offset)
                self.optimizer.open(self.rule.at(progress).opened, self.rule.at(before).opened)
            self._step(drawn, lr, loss)
            yield Update(done, loss, lr, drawn, save)

    def _draw(self, index: int, micro: int, rank: int, progress: float = 1.0) -> list[Share]:
        """What a process trains in a micro-batch: any process can tell for any other."""
        number = micro
        if self.spec.diverse_ranks:
            number = micro * self.processes.count + rank
        random = Random(stream_seed(self.spec.seed, "rule", index, number))
        return self.rule.draw(random, progress)

    def _drawn(self, index: int, progress: float) -> tuple[SubModel, ...]:
        """Every sub-model that any process trains in an update."""
        ranks = range(self.processes.count if self.spec.diverse_ranks else 1)
        found = [
            submodel
            for micro in range(self.spec.accumulate)
            for rank in ranks
            for submodel, _ in self._draw(index, micro, rank, progress)
        ]
        return tuple(dict.fromkeys(found))

    def _exchange(self, parts: list[Part]) -> Tensor:
        """Sum gradients over all processes, and return the loss of all of them."""
        loss = torch.stack([part.loss for part in parts]).sum()
        if not self.network.sharded:  # there, every backward pass has summed them
            for gradient in self.network.own_gradients:
                self.processes.sum(gradient)
        self.processes.sum(loss)
        return loss

    def _micro_batch(self, number: int, batch: Batch, shares: list[Share]) -> list[Part]:
        """Add the gradients of one micro-batch; return its losses."""
        inputs, targets = batch
        # The weights of a draw sum to one; a sum of losses gives each loss a weight of one.
        scale = (len(shares) if self.spec.sums_losses else 1) / self.batches_each
        weights = {submodel: weight * scale for submodel, weight in shares}
        largest = self.network.space.largest
        teacher: list[Tensor] = []
        if self.spec.distill and shares[0][0] != largest:
            with self._may_fail([largest], len(targets)):
                teacher = self._teach(largest, inputs, targets)
        parts = []
        for group in self.network.groups(list(weights)):
            with self._may_fail(group, len(targets)):
                losses = self._pass(group, weights, batch, teacher)
            parts += [Part(s, number, loss) for s, loss in zip(group, losses, strict=True)]
        return parts

    def _pass(
        self,
        group: list[SubModel],
        weights: Mapping[SubModel, float],
        batch: Batch,
        teacher: list[Tensor],
    ) -> list[Tensor]:
        """Train what one pass serves, the deepest sub-model first; return the weighted losses.

        States are cut off from the graph a chunk of rows at a time, each chunk collects the
        gradient of its logits, and one backward pass takes them all through the body. `teacher`
        holds the teacher's logits by chunk, and is filled where the teacher itself is trained.
        """
        inputs, targets = batch
        shared = self.network.shared_pass(group, training=True)
        self.network.check_sharing(group[0])
        states: list[Tensor] = []
        gradients: list[Tensor] = []
        losses = [torch.zeros((), device=self.network.device) for _ in group]

        def forward() -> list[Tensor]:
            # One context for body and tails: a weight is cast once, not for each chunk and exit.
            with self._autocast():
                exits = shared.states(inputs)
                picked = [self.task.scored(found, targets) for found in exits]
                states.extend(state for state, _ in picked)
                wanted = picked[0][1]
                gradients.extend(
                    self._tails(shared, group, states, wanted, weights, teacher, losses)
                )
            return exits

        self.network.run(forward)
        torch.autograd.backward(states, gradients)
        return losses

    def _tails(
        self,
        shared: SharedPass,
        group: list[SubModel],
        states: list[Tensor],
        wanted: Tensor,
        weights: Mapping[SubModel, float],
        teacher: list[Tensor],
        losses: list[Tensor],
    ) -> list[Tensor]:
        """Add the exits' losses, a chunk of logits at a time; return the gradients of `states`."""
        pieces: list[list[Tensor]] = [[] for _ in group]

        def logits_of(number: int, rows: slice) -> Tensor:
            pieces[number].append(states[number].detach()[rows].requires_grad_())
            return shared.logits(number, pieces[number][-1]).float()

        for chunk, rows in enumerate(chunks(len(wanted), self.task.num_outputs)):
            for number, submodel in enumerate(group):
                logits = logits_of(number, rows)
                # The teacher itself learns from the labels alone.
                is_teacher = submodel == self.network.space.largest
                learns_from = None if is_teacher or not teacher else teacher[chunk]
                loss = self.task.loss(logits, wanted[rows], learns_from, self.spec.teacher_share)
                share = loss * (weights[submodel] * (rows.stop - rows.start) / len(wanted))
                self._backward(share)
                losses[number] += share.detach()
                if self.spec.distill and is_teacher:
                    teacher.append(logits.detach())
        if not len(wanted):  # gradients of zero, so that all processes have the same to sum
            for number in range(len(group)):
                self._backward(logits_of(number, slice(0, 0)).sum())
        return [_joined([cast(Tensor, p.grad) for p in own]) for own in pieces]

    def _backward(self, loss: Tensor) -> None:
        """Run backward as torch asks for it, outside of autocast, while its casts are kept."""
        with torch.autocast(self.network.device.type, enabled=False):
            loss.backward()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def _teach(self, largest: SubModel, inputs: Inputs, targets: Tensor) -> list[Tensor]:
        """The largest sub-model's logits, in chunks."""
        shared = self.network.shared_pass([largest], training=True)

        def forward() -> list[Tensor]:
            with self._autocast():
                (states,) = shared.states(inputs)
                scored, wanted = self.task.scored(states, targets)
                pieces = chunks(len(wanted), self.task.num_outputs)
                return [shared.logits(0, scored[rows]).float() for rows in pieces]

        return self.network.run(forward)

    def _step(self, drawn: Sequence[SubModel], lr: float, loss: Tensor) -> None:
        """Step, unless the loss is no number."""
        skip = ~torch.isfinite(loss)
        if not self.optimizer.skips_on_device:
            self.watch.check()
            if bool(skip):
                return
        touched: set[str] = set()
        for submodel in drawn:
            touched |= self.network.plan(submodel).sources
        with enough_memory("the optimizer's state", SMALLER):
            self.optimizer.step(touched, lr, skip)

    @contextmanager
    def _may_fail(self, group: Sequence[SubModel], num_samples: int) -> Iterator[None]:
        """Tell what a pass lacked: memory, or a compiler."""
        compiler: AbstractContextManager[None] = compiling() if self.spec.compile else nullcontext()
        with enough_memory(pass_of(group, num_samples), _LOWER), compiler:
            yield

    def _autocast(self) -> torch.autocast:
        # What a cast remembers is as large as the weights: not where they do not fit.
        return torch.autocast(
            self.network.device.type,
            dtype=torch.bfloat16,
            enabled=in_bf16(self.spec.precision, self.network.device),
            cache_enabled=not self.network.sharded,
        )


def _joined(gradients: list[Tensor]) -> Tensor:
    return gradients[0] if len(gradients) == 1 else torch.cat(gradients)


def total_updates(spec: TrainSpec, batches_per_epoch: int, processes: int = 1) -> int:
    """The number of updates that `updates` or `epochs` of a spec mean, at least one."""
    if spec.updates is not None:
        return spec.updates
    assert spec.epochs is not None
    return max(1, round(spec.epochs * batches_per_epoch / (spec.accumulate * processes)))
