"""The cost model of training: pure functions of sizes and counts.

N is the number of processes, each with one device. Bytes are those of tensors, without the headers
of files and messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sortednet_cli.engine.planning.passes import Route, shared_macs
from sortednet_cli.rules import Rule, layer_dropout_rates
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.space.submodel import without_depth
from sortednet_cli.spec import TrainSpec

LOSS_BYTES, FLAG_BYTES = 4, 8
"""What processes exchange per update besides gradients: the loss, and flags to stop and to save."""


@dataclass(frozen=True)
class Groups:
    """Bytes of float32 parameters in the groups that sharding gathers.

    Attributes:
        layers: bytes of each layer, which is gathered when it runs.
        root: bytes of all other parameters (embeddings, last norm, head), which are gathered for a
            whole micro-batch.
    """

    layers: tuple[int, ...]
    root: int

    @property
    def whole(self) -> int:
        """Bytes of all parameters."""
        return sum(self.layers) + self.root


@dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Attributes:
        weights: float32 weights.
        gradient: float32 gradient of the whole root network.
        optimizer: state of the optimizer.
        gathered: weights that sharding gathers to run layers.
        unsummed: gradients that wait to be summed into shards.
        micro_batch: peak of a micro-batch or of the step after it, beyond the others.
        teacher: weights of a fixed teacher, which is never sharded.
    """

    weights: int
    gradient: int
    optimizer: int
    gathered: int
    unsummed: int
    micro_batch: int
    teacher: int = 0

    @property
    def total(self) -> int:
        return sum(vars(self).values())


@dataclass(frozen=True)
class Wire:
    """Bytes that one process sends per update.

    Attributes:
        gather: weights, if they are sharded.
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
        forward: forward passes of all micro-batches; what sub-models share counts once.
        backward: backward passes, which take twice as many.
        teacher: passes that only compute the teacher's outputs.
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
        passes: number of passes that serve all sub-models.
        shared: multiply-adds of these passes.
        alone: multiply-adds of scoring one sub-model after another.
        largest: multiply-adds of the largest sub-model.
        recalibration: multiply-adds of measuring all statistics on one sample; 0 without any.
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
    """Count the bytes of the optimizer's state, and of the weights' average.

    Per weight, AdamW stores two moments, SGD a momentum, and RMSprop the mean square and a
    momentum, in float32. A momentum of 0 is not stored. `train.average` stores one more.

    Args:
        weights: bytes of the weights.
    """
    momentum = int(train.momentum > 0)
    num_stored = {"adamw": 2, "sgd": momentum, "rmsprop": 1 + momentum}
    return (num_stored[train.optimizer] + int(train.average > 0)) * weights


def step_mask_bytes(train: TrainSpec, rule: Rule, weights: int) -> int:
    """Bound the bytes of the masks for weights that are updated in part: two copies of all."""
    opens = rule.opened(0.0) != rule.space.largest
    return 2 * weights if opens or train.crossing_lr < 1 or train.rare_lr > 1 else 0


def replicated(weights: int, gradient: int, optimizer: int, micro_batch: int) -> Memory:
    """Compute the memory of a device that holds everything."""
    return Memory(weights, gradient, optimizer, 0, 0, micro_batch)


def sharded(groups: Groups, optimizer: int, micro_batch: int, processes: int) -> Memory:
    """Compute the memory of a device that holds 1/N of weights, gradient and optimizer state.

    It gathers the root group for a whole micro-batch, and two layers at a time: the one that runs
    and the next. Gradients of the same size wait to be summed into shards.
    """
    gathered = groups.root + sum(sorted(groups.layers)[-2:])
    return Memory(
        weights=_share(groups.whole, processes),
        gradient=_share(groups.whole, processes),
        optimizer=_share(optimizer, processes),
        gathered=gathered,
        unsummed=gathered,
        micro_batch=micro_batch,
    )


def replicated_wire(gradient: int, processes: int) -> Wire:
    """Count the bytes of a ring all-reduce: every process sends 2 (N-1)/N of the gradient."""
    return Wire(0, 2 * _sent(gradient + LOSS_BYTES + FLAG_BYTES, processes))


def sharded_wire(groups: Groups, processes: int, accumulate: int) -> Wire:
    """Count the bytes that a process sends per update if weights are sharded.

    A micro-batch gathers each layer twice, forward and backward, and the root group once. A gather
    sends (N-1)/N of its bytes. Each micro-batch also sums its gradient into shards, which sends
    (N-1)/N of it, so that no device holds a whole gradient.
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
    train: TrainSpec,
    rule: Rule,
    space: SearchSpace,
    routes: Mapping[SubModel, Route],
    fixed_teacher: float = 0.0,
    num_layers: int = 0,
) -> Compute:
    """Count the multiply-adds of an update, as the mean over the draws of a rule.

    A backward pass costs two forward passes. If the rule has not drawn the teacher, it takes one
    more forward pass. A layer that is skipped at random counts as often as it runs.

    Args:
        fixed_teacher: multiply-adds of a fixed teacher on one sample.
        num_layers: of the root, which `train.layer_dropout` counts.
    """
    forward, teacher, whole = 0.0, fixed_teacher, shared_macs([routes[space.largest]])
    if train.layer_dropout:
        rates = layer_dropout_rates(train.layer_dropout, num_layers)
        routes = {submodel: _thinned(route, rates) for submodel, route in routes.items()}
    for phase in rule.phases():
        draws = phase.draws()
        runs = sum(shared_macs([routes[submodel] for submodel in draw]) for draw in draws)
        forward += phase.length * runs / len(draws)
        if train.distill is True:
            num_without = sum(draw[0] != space.largest for draw in draws)
            share = phase.length * num_without / len(draws)
            teacher += share * whole
    samples = train.accumulate * train.batch_size
    return Compute(round(samples * forward), round(samples * teacher))


def _thinned(route: Route, rates: Sequence[float]) -> Route:
    """What a route takes on average if each of its steps, a layer, is skipped at a rate."""
    pairs = zip(route.steps, rates, strict=False)  # a shallower sub-model has the first layers
    return replace(route, steps=tuple((key, round(m * (1 - rate))) for (key, m), rate in pairs))


def evaluation_of(
    space: SearchSpace, routes: Mapping[SubModel, Route], passes_share: bool, statistics: bool
) -> Evaluation:
    """Count the multiply-adds of scoring every sub-model on one sample.

    Args:
        passes_share: whether one pass serves all depths of a width.
        statistics: whether normalisation statistics must be measured, for which no tail runs.
    """
    all_routes = list(routes.values())
    return Evaluation(
        passes=len({without_depth(s) for s in space.submodels}) if passes_share else len(space),
        shared=shared_macs(all_routes),
        alone=sum(shared_macs([route]) for route in all_routes),
        largest=shared_macs([routes[space.largest]]),
        recalibration=shared_macs(all_routes, tails=False) if statistics else 0,
    )
