"""The cost model: what a training takes by formula. Pure functions of sizes and counts.

N is the number of processes, each with one device. Bytes are those of tensors; what a file's
header or a message's envelope adds is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sortednet_cli.engine.planning.passes import Route, shared_macs
from sortednet_cli.rules import Rule
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.space.submodel import without_depth
from sortednet_cli.spec import TrainSpec

LOSS_BYTES, FLAG_BYTES = 4, 8
"""What an update exchanges beside gradients: its loss, and whether to stop or to save."""


@dataclass(frozen=True)
class Groups:
    """Bytes of float32 parameters as sharding parts them.

    Attributes:
        layers: of each layer, gathered when it runs.
        root: of all others (embeddings, last norm, head), gathered for a whole micro-batch.
    """

    layers: tuple[int, ...]
    root: int

    @property
    def whole(self) -> int:
        return sum(self.layers) + self.root


@dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Attributes:
        weights: float32.
        gradient: float32, of the whole root network.
        optimizer: its state.
        gathered: layers and the root group that sharding puts together to run them.
        unsummed: gradients that wait to be summed into shards.
        micro_batch: everything that a micro-batch adds, or the step after it if that is more.
    """

    weights: int
    gradient: int
    optimizer: int
    gathered: int
    unsummed: int
    micro_batch: int

    @property
    def total(self) -> int:
        return sum(vars(self).values())


@dataclass(frozen=True)
class Wire:
    """Bytes that one process sends for an update.

    Attributes:
        gather: weights, where they are sharded.
        reduce: gradients, the loss and two flags.
    """

    gather: int
    reduce: int

    @property
    def total(self) -> int:
        return self.gather + self.reduce


@dataclass(frozen=True)
class Compute:
    """Multiply-adds of one update on one process.

    Attributes:
        forward: of all micro-batches, what sub-models share once.
        backward: twice as many.
        teacher: of the passes that only make a teacher's outputs.
    """

    forward: int
    teacher: int

    @property
    def backward(self) -> int:
        return 2 * self.forward

    @property
    def total(self) -> int:
        return self.forward + self.backward + self.teacher


@dataclass(frozen=True)
class Evaluation:
    """Multiply-adds of scoring every sub-model on one sample.

    Attributes:
        passes: how many passes serve them all.
        shared: by those passes.
        alone: one sub-model after another.
        largest: the largest sub-model.
        recalibration: of measuring every sub-model's statistics on one sample; 0 without any.
    """

    passes: int
    shared: int
    alone: int
    largest: int
    recalibration: int


@dataclass(frozen=True)
class Storage:
    """Bytes of tensors on disk.

    Attributes:
        run: the weights, and the statistics of every sub-model.
        artifacts: every sub-model cut out.
        checkpoint: weights and optimizer state.
    """

    run: int
    artifacts: int
    checkpoint: int


def optimizer_bytes(train: TrainSpec, weights: int) -> int:
    """State of the optimizer: as many float32 numbers for each weight as it remembers.

    AdamW two moments; SGD its momentum; RMSprop the mean square, and a momentum. A momentum of 0
    is not kept.
    """
    momentum = int(train.momentum > 0)
    kept = {"adamw": 2, "sgd": momentum, "rmsprop": 1 + momentum}
    return kept[train.optimizer] * weights


def step_mask_bytes(train: TrainSpec, rule: Rule, weights: int) -> int:
    """What the optimizer holds for weights that it moves in part: at most two copies of all."""
    opens = rule.opened(0.0) != rule.space.largest
    return 2 * weights if opens or train.crossing_lr < 1 else 0


def replicated(weights: int, gradient: int, optimizer: int, micro_batch: int) -> Memory:
    """Every device holds everything."""
    return Memory(weights, gradient, optimizer, 0, 0, micro_batch)


def sharded(groups: Groups, optimizer: int, micro_batch: int, processes: int) -> Memory:
    """Every device holds 1/N of weights, gradient and optimizer.

    To run, it gathers the root group for a whole micro-batch, and one layer while the next
    arrives; gradients of as much wait to be summed into shards.
    """
    together = groups.root + sum(sorted(groups.layers)[-2:])
    return Memory(
        weights=_share(groups.whole, processes),
        gradient=_share(groups.whole, processes),
        optimizer=_share(optimizer, processes),
        gathered=together,
        unsummed=together,
        micro_batch=micro_batch,
    )


def replicated_wire(gradient: int, processes: int) -> Wire:
    """One ring all-reduce of the gradient: every process sends 2 (N-1)/N of its bytes."""
    return Wire(0, 2 * _sent(gradient + LOSS_BYTES + FLAG_BYTES, processes))


def sharded_wire(groups: Groups, processes: int, accumulate: int) -> Wire:
    """A micro-batch gathers each layer twice, forward and backward, and the root group once.

    A gather sends (N-1)/N of what is gathered. Each micro-batch sums its gradient into shards,
    which sends (N-1)/N of it, so that no device ever holds a whole one.
    """
    gathered = 2 * sum(groups.layers) + groups.root
    small = 2 * _sent(LOSS_BYTES + FLAG_BYTES, processes)
    return Wire(
        gather=accumulate * _sent(gathered, processes),
        reduce=accumulate * _sent(groups.whole, processes) + small,
    )


def _share(size: int, processes: int) -> int:
    return -(-size // processes)


def _sent(size: int, processes: int) -> int:
    return size * (processes - 1) // processes


def compute_of(
    train: TrainSpec, rule: Rule, space: SearchSpace, routes: Mapping[SubModel, Route]
) -> Compute:
    """Mean over the draws of a rule; a backward pass costs two forward passes.

    A teacher that the rule has not drawn takes one more forward pass.
    """
    forward = teacher = 0.0
    for phase in rule.phases():
        draws = phase.draws()
        runs = sum(shared_macs([routes[submodel] for submodel in draw]) for draw in draws)
        forward += phase.length * runs / len(draws)
        if train.distill:
            without = sum(draw[0] != space.largest for draw in draws)
            teacher += phase.length * without / len(draws) * shared_macs([routes[space.largest]])
    samples = train.accumulate * train.batch_size
    return Compute(round(samples * forward), round(samples * teacher))


def evaluation_of(
    space: SearchSpace, routes: Mapping[SubModel, Route], passes_share: bool, statistics: bool
) -> Evaluation:
    """Score every sub-model on one sample; measure statistics without the tails."""
    everything = list(routes.values())
    return Evaluation(
        passes=len({without_depth(s) for s in space.submodels}) if passes_share else len(space),
        shared=shared_macs(everything),
        alone=sum(shared_macs([route]) for route in everything),
        largest=shared_macs([routes[space.largest]]),
        recalibration=shared_macs(everything, tails=False) if statistics else 0,
    )
