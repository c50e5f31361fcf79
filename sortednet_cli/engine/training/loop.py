"""The training loop: a generator of updates. It neither logs nor saves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from random import Random

import torch
from torch import Tensor

from sortednet_cli.data import Batch, Dataset
from sortednet_cli.distributed.processes import SINGLE_PROCESS, Processes
from sortednet_cli.engine.training.micro_batch import MicroBatches, SubModelLoss
from sortednet_cli.engine.training.nonfinite import LossWatch
from sortednet_cli.engine.training.optimizer import RootOptimizer, learning_rate
from sortednet_cli.engine.training.teacher import FixedTeacher
from sortednet_cli.machine.cuda_graphs import open_graphs
from sortednet_cli.machine.memory import enough_memory
from sortednet_cli.machine.precision import seed_generators
from sortednet_cli.nesting import Costs, NestedNetwork
from sortednet_cli.rules import Rule, Share, skipped_layers
from sortednet_cli.seeds import stream_seed
from sortednet_cli.space import SubModel
from sortednet_cli.spec import TrainSpec
from sortednet_cli.tasks import Task

SMALLER = "take a smaller model.config, or more memory"


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


@dataclass(frozen=True)
class Schedule:
    """Where each update lies in the whole training.

    Attributes:
        total: number of the last update.
        offset: under another number of processes, a training goes on from the share of its data
            that it has seen: so many updates lie before its first one.
    """

    total: int
    offset: int = 0

    def progress(self, index: int) -> float:
        """The share of the training that lies before the update with that index."""
        return max(0, index + self.offset) / (self.total + self.offset)

    def learning_rate(self, spec: TrainSpec, index: int) -> float:
        return learning_rate(spec, index + self.offset, self.total + self.offset)


@dataclass
class Trainer:
    """What an update needs; a checkpoint has nothing to keep of it but the count of its `watch`.

    Of an update's micro-batches, numbered over all processes, a process takes every
    `processes.count`-th: so N processes do what one does that takes N times as many.
    """

    network: NestedNetwork
    task: Task
    rule: Rule
    data: Dataset
    optimizer: RootOptimizer
    spec: TrainSpec
    processes: Processes = SINGLE_PROCESS
    teacher: FixedTeacher | None = None

    def __post_init__(self) -> None:
        self.watch = LossWatch(self.spec.max_nonfinite)
        spec, graphs = self.spec, None
        # A recorded pass adds its gradients where they lay when it was recorded.
        varies = spec.shard or spec.compile or spec.layer_dropout
        if self.network.adds_in_place and not varies:
            graphs = open_graphs(spec.cuda_graphs, self.network.device, "train.cuda_graphs = true")
        self.micro_batches = MicroBatches(
            self.network,
            self.task,
            self.spec,
            self.batches_each,
            self.rule.sums_losses,
            graphs,
            self.teacher,
            lambda submodel: self.costs.of(submodel).macs,
        )

    @property
    def batches_each(self) -> int:
        """Micro-batches of one update, on all processes."""
        return self.spec.accumulate * self.processes.count

    @cached_property
    def costs(self) -> Costs:
        """What sub-models cost on the data."""
        form = self.data.format
        return Costs(self.network.family, form.random_inputs, form.num_units)

    def release(self) -> None:
        """Give back what updates alone need of the device's memory."""
        if self.micro_batches.graphs is not None:
            self.micro_batches.graphs.clear()

    def schedule(self, start: Position) -> Schedule:
        """The schedule of a training that goes on from `start`."""
        if self.spec.updates is not None:
            return Schedule(self.spec.updates)
        whole = total_updates(
            self.spec, self.data.batches_per_epoch(self.spec.batch_size), self.processes.count
        )
        seen = start.batches // self.batches_each
        return Schedule(start.update + max(0, whole - seen), offset=seen - start.update)

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
        schedule, done = self.schedule(start), start
        for index in range(start.update, schedule.total):
            self.network.zero_gradients()
            losses = self._accumulate(done, schedule.progress(index), batches, stopped)
            stop, save = self.processes.any(losses is None, due())
            if stop or losses is None:
                return
            loss = self._exchange(losses)
            done = Position(index + 1, done.batches + self.batches_each)
            self.watch.note(done.update, loss, losses)
            drawn, lr = (
                self._drawn(index, schedule.progress(index)),
                schedule.learning_rate(self.spec, index),
            )
            self._open_weights(index, schedule)
            self._step(done.update, self._touched(index, schedule.progress(index)), lr, loss)
            yield Update(done, loss, lr, drawn, save)

    def _accumulate(
        self,
        done: Position,
        progress: float,
        batches: Iterator[Batch],
        stopped: Callable[[], bool],
    ) -> list[SubModelLoss] | None:
        """Add the gradients of this process's micro-batches; None if it was stopped."""
        losses: list[SubModelLoss] = []
        for micro in range(self.spec.accumulate):
            if stopped():
                return None
            stream = micro * self.processes.count + self.processes.rank
            drawn = self._draw(done.update, micro, self.processes.rank, progress)
            seed = stream_seed(self.spec.seed, "dropout", done.update, stream)
            seed_generators(self.network.device, seed)
            number = done.batches + stream
            skipped = self._skipped(done.update, micro, self.processes.rank)
            losses += self.micro_batches.add_gradients(next(batches), drawn, number, skipped)
        return losses

    def _draw(self, index: int, micro: int, rank: int, progress: float = 1.0) -> list[Share]:
        """What a process trains in a micro-batch: any process can tell for any other."""
        number = self._number(micro, rank)
        rule = self.rule if number else self.rule.first
        return rule.draw(self._random("rule", index, number), progress)

    def _skipped(self, index: int, micro: int, rank: int) -> frozenset[int]:
        """The layers that a process skips in a micro-batch: any process can tell for any other."""
        highest, count = self.spec.layer_dropout, self.network.family.num_alike_layers
        if not highest:
            return frozenset()
        random = self._random("layers", index, self._number(micro, rank))
        return skipped_layers(random, highest, count)

    def _number(self, micro: int, rank: int) -> int:
        """Number of a micro-batch among those of an update that draw for themselves."""
        return micro * self.processes.count + rank if self.spec.diverse_ranks else micro

    def _random(self, purpose: str, index: int, number: int) -> Random:
        """A stream of its own for a micro-batch of an update."""
        return Random(stream_seed(self.spec.seed, purpose, index, number))

    def _drawn(self, index: int, progress: float) -> tuple[SubModel, ...]:
        """Every sub-model that any process trains in an update."""
        found = [
            submodel
            for micro, rank in self._everyone()
            for submodel, _ in self._draw(index, micro, rank, progress)
        ]
        return tuple(dict.fromkeys(found))

    def _touched(self, index: int, progress: float) -> set[str]:
        """Names of the root's tensors that any process trains in an update."""
        touched: set[str] = set()
        for micro, rank in self._everyone():
            idle = tuple(self._layers[i] for i in self._skipped(index, micro, rank))
            for submodel, _ in self._draw(index, micro, rank, progress):
                sources = self.network.plan(submodel).sources
                touched |= {s for s in sources if not s.startswith(idle)} if idle else sources
        return touched

    @cached_property
    def _layers(self) -> list[str]:
        """What the names of each layer's tensors begin with."""
        names = {module: f"{name}." for name, module in self.network.module.named_modules()}
        return [names[layer] for layer in self.network.family.layers(self.network.module)]

    def _everyone(self) -> list[tuple[int, int]]:
        """The micro-batches of an update, each with the rank that takes it, that may differ."""
        ranks = range(self.processes.count if self.spec.diverse_ranks else 1)
        return [(micro, rank) for micro in range(self.spec.accumulate) for rank in ranks]

    def _exchange(self, losses: list[SubModelLoss]) -> Tensor:
        """Sum gradients over all processes, and return the loss of all of them."""
        loss = torch.stack([part.loss for part in losses]).sum()
        for gradient in self.network.unsummed_gradients:
            self.processes.sum(gradient)
        self.processes.sum(loss)
        return loss

    def _open_weights(self, index: int, schedule: Schedule) -> None:
        """Tell the optimizer which weights the rule has opened by now."""
        now, before = schedule.progress(index), schedule.progress(index - 1)
        self.optimizer.open(self.rule.opened(now), self.rule.opened(before))

    def _step(self, update: int, touched: set[str], lr: float, loss: Tensor) -> None:
        """Step and average, unless the loss is no number."""
        skip = ~torch.isfinite(loss)
        if not self.optimizer.skips_on_device and not self.watch.check():
            return
        with enough_memory("the optimizer's state", SMALLER):
            self.optimizer.step(touched, lr, skip)
            self.optimizer.add_to_average(update, skip)


def total_updates(spec: TrainSpec, batches_per_epoch: int, processes: int = 1) -> int:
    """The number of updates that `updates` or `epochs` of a spec mean, at least one."""
    if spec.updates is not None:
        return spec.updates
    assert spec.epochs is not None
    return max(1, round(spec.epochs * batches_per_epoch / (spec.accumulate * processes)))
