"""The resource plan of a spec, by the cost model and without data.

Weights, gradient and optimizer state are float32, as in training. The precision `auto` counts as
bfloat16 autocast, although a training may measure that float32 is faster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from sortednet_cli.data import nominal_format
from sortednet_cli.engine.planning import costs
from sortednet_cli.engine.planning.costs import Compute, Evaluation, Groups, Memory, Storage, Wire
from sortednet_cli.engine.planning.footprint import Footprint, footprint_of
from sortednet_cli.engine.planning.passes import Route, routes_of, stored_bytes
from sortednet_cli.engine.planning.teacher import PlannedTeacher
from sortednet_cli.engine.training.preflight import check_plan
from sortednet_cli.families import Family, open_family, root_of
from sortednet_cli.nesting import build_skeleton, has_statistics, own_norms
from sortednet_cli.rules import make_rule
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import RunSpec, TrainSpec


@dataclass(frozen=True)
class ResourcePlan:
    """The resources that training needs on `processes` processes with one device each.

    Attributes:
        spec: the spec.
        precision: `fp32` or `bf16`.
        processes: number of processes.
        shards: whether the spec shards weights.
        submodels: number of sub-models.
        params: number of parameters of the root network, with the norms of each width's own.
        unit: what a sample consists of: `image` or `token`.
        units: number of these in a sample.
        footprint: memory of a micro-batch.
        memory: memory of a device, for `replicated`, and for `sharded` if that is possible.
        wire: communication of a process per update, for the same keys.
        compute: multiply-adds of a process per update.
        evaluation: multiply-adds of scoring all sub-models on one sample.
        storage: bytes on disk.
    """

    spec: RunSpec
    precision: str
    processes: int
    shards: bool
    submodels: int
    params: int
    unit: str
    units: int
    footprint: Footprint
    memory: Mapping[str, Memory]
    wire: Mapping[str, Wire]
    compute: Compute
    evaluation: Evaluation
    storage: Storage


def plan_resources(
    spec: RunSpec, processes: int = 1, allowed: tuple[str, ...] = ()
) -> ResourcePlan:
    """Plan the training of a spec, without its data.

    Args:
        allowed: factories that a teacher may run besides the spec's own, as `MODULE:NAME`.

    Raises:
        RequestError: the spec is wrong, takes sizes from its data or its pretrained model, or its
            teacher does not fit.
    """
    check_plan(spec)
    inputs = nominal_format(spec)
    root_network = root_of(spec.model, spec.task, inputs.facts(), space=spec.space)
    family = open_family(root_network, spec.model.factories)
    space, train = SearchSpace.of(spec.space), _with_precision(spec.train)
    rule = make_rule(train, space)
    root = build_skeleton(family, family.root.config)
    norms = num_own_norms(family)
    groups = groups_of(family, root)
    teacher = PlannedTeacher.open(train, inputs, (*spec.model.factories, *allowed))
    footprint = footprint_of(family, rule, train, inputs, teacher)
    routes = routes_of(family, space, inputs)
    whole = groups.whole + 4 * norms
    optimizer = costs.optimizer_bytes(train, whole)
    state = optimizer + costs.step_mask_bytes(train, rule, whole)
    memory = {"replicated": costs.replicated(whole, footprint.gradient, state, footprint.peak)}
    wire = {"replicated": costs.replicated_wire(footprint.gradient, processes)}
    if processes > 1 and family.facts.can_shard and set(space.as_lists()) == {"depth"}:
        memory["sharded"] = costs.sharded(groups, optimizer, footprint.peak, processes)
        wire["sharded"] = costs.sharded_wire(groups, processes, train.accumulate)
    if teacher is not None:
        memory = {kind: replace(one, teacher=teacher.weights) for kind, one in memory.items()}
    taught = teacher.macs if teacher else 0
    compute = costs.compute_of(train, rule, space, routes, taught, family.num_alike_layers)
    return ResourcePlan(
        spec=spec,
        precision=train.precision,
        processes=processes,
        shards=bool(getattr(train, "shard", False)),
        submodels=len(space),
        params=sum(parameter.numel() for parameter in root.parameters()) + norms,
        unit=inputs.unit,
        units=inputs.num_units,
        footprint=footprint,
        memory=memory,
        wire=wire,
        compute=compute,
        evaluation=costs.evaluation_of(space, routes, family.shares_depths, has_statistics(root)),
        storage=_storage(root, 4 * norms, routes, optimizer),
    )


def _with_precision(train: TrainSpec) -> TrainSpec:
    """Replace the precision `auto`."""
    if train.precision != "auto":
        return train
    return train.model_copy(update={"precision": "bf16"})


def _storage(
    root: nn.Module, beside: int, routes: Mapping[SubModel, Route], optimizer: int
) -> Storage:
    stored, statistics = stored_bytes(root)
    weights = stored - statistics + beside
    return Storage(
        run=weights + sum(route.statistics for route in routes.values()),
        artifacts=sum(route.stored for route in routes.values()),
        checkpoint=weights + optimizer,
    )


def num_own_norms(family: Family) -> int:
    """Count the parameters that some widths' norms have beside the root network."""
    return sum(math.prod(piece.shape) for piece in own_norms(family).vectors.values())


def groups_of(family: Family, root: nn.Module) -> Groups:
    """Count the bytes of each layer that can be sharded, and of all other parameters."""
    whole = sum(parameter.nbytes for parameter in root.parameters())
    layers = tuple(sum(p.nbytes for p in layer.parameters()) for layer in family.layers(root))
    return Groups(layers, whole - sum(layers))
