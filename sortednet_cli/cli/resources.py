"""A resource plan as text and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sortednet_cli.engine import ResourcePlan

_SCALES = (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))

_MEMORY = {
    "weights": "weights",
    "gradient": "gradient",
    "optimizer": "optimizer state",
    "gathered": "layers gathered to run",
    "unsummed": "gradient not summed yet",
    "micro_batch": "a micro-batch",
    "teacher": "the teacher's weights",
    "total": "all",
}
_WIRE = {"gather": "weights", "reduce": "gradient, loss, flags", "total": "all"}
_COMPUTE = {"forward": "forward", "backward": "backward", "teacher": "teacher", "total": "all"}
_DISK = {"run": "the run", "checkpoint": "a checkpoint", "artifacts": "every sub-model cut out"}


def record(plan: ResourcePlan) -> dict[str, Any]:
    """Return the plan as JSON values; bytes and multiply-adds are integers."""
    train = plan.spec.train
    return {
        "name": plan.spec.name,
        "family": plan.spec.model.family,
        "rule": train.rule,
        "optimizer": train.optimizer,
        "precision": plan.precision,
        "processes": plan.processes,
        "batch_size": train.batch_size,
        "accumulate": train.accumulate,
        "unit": plan.unit,
        "units": plan.units,
        "submodels": plan.submodels,
        "params": plan.params,
        "memory_bytes": {
            kind: asdict(memory) | {"total": memory.total} for kind, memory in plan.memory.items()
        },
        "cast_bytes": plan.footprint.casts,
        "wire_bytes": {
            kind: asdict(wire) | {"total": wire.total} for kind, wire in plan.wire.items()
        },
        "update_macs": {
            "forward": plan.compute.forward,
            "backward": plan.compute.backward,
            "teacher": plan.compute.teacher,
            "total": plan.compute.total,
        },
        "evaluation_macs": asdict(plan.evaluation),
        "disk_bytes": asdict(plan.storage),
    }


def text(plan: ResourcePlan) -> str:
    """Return the plan as tables, without the rows whose values are all 0."""
    values, train, evaluation = record(plan), plan.spec.train, plan.evaluation
    size = f"{train.batch_size} x {plan.units} {plan.unit}s" if plan.units > 1 else None
    batch = size or f"{train.batch_size} {plan.unit}s"
    lines = [
        f"{plan.spec.name}: {plan.submodels} sub-models in {_scaled(plan.params)} parameters,"
        f" rule {train.rule}, {train.optimizer}, {plan.precision}",
        f"an update is {train.accumulate} x {batch} on each of {plan.processes}"
        f" {'processes' if plan.processes > 1 else 'process'}",
        *_table("memory of a device", values["memory_bytes"], _MEMORY, show_bytes),
    ]
    if plan.footprint.casts:
        lines.append(
            f"  (of a micro-batch, {show_bytes(plan.footprint.casts)} are weights in bfloat16)"
        )
    if plan.processes > 1:
        title = "a process sends for an update"
        lines += _table(title, values["wire_bytes"], _WIRE, show_bytes)
    per_update = {"multiply-adds": values["update_macs"]}
    lines += _table("a process computes for an update", per_update, _COMPUTE, _scaled)
    unit = "an image" if plan.units == 1 else f"{plan.units} {plan.unit}s"
    rows = {
        "largest": "the largest sub-model",
        "alone": "all, one by one",
        "shared": f"all, in {evaluation.passes} shared pass{'es' if evaluation.passes > 1 else ''}",
        "recalibration": "statistics of all",
    }
    scores = {"multiply-adds": values["evaluation_macs"]}
    lines += _table(f"scoring {unit}", scores, rows, _scaled)
    lines += _table("on disk", {"": values["disk_bytes"]}, _DISK, show_bytes)
    return "\n".join(lines)


def _table(
    title: str,
    columns: Mapping[str, Mapping[str, int]],
    rows: Mapping[str, str],
    show: Callable[[int], str],
) -> list[str]:
    """Lay out the lines of a table: a labelled row for each key of `rows` that has a value."""
    cells = [[title, *columns]]
    for key, label in rows.items():
        values = [column[key] for column in columns.values()]
        if any(values):
            cells.append([label, *(show(value) if value else "-" for value in values)])
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return ["", *(_line(row, widths) for row in cells)]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = [
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join([first, *others]).rstrip()


def _scaled(value: float) -> str:
    suffix, scale = next(((s, n) for s, n in _SCALES if value >= n), ("", 1.0))
    return f"{value / scale:.4g}{suffix}"


def show_bytes(value: int) -> str:
    number = _scaled(value)
    return f"{number[:-1]} {number[-1]}B" if number[-1].isalpha() else f"{number} B"
