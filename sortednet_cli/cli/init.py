"""`sortednet init`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sortednet_cli import engine
from sortednet_cli.cli import options
from sortednet_cli.cli.render import print_json
from sortednet_cli.cli.resources import show_bytes
from sortednet_cli.engine import DraftRequest
from sortednet_cli.errors import listed
from sortednet_cli.logs import logger
from sortednet_cli.space import format_count

if TYPE_CHECKING:
    from sortednet_cli.engine import Draft

_ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A folder, a file, a hub name, a name of timm or torchvision, or MODULE:FACTORY.",
    ),
]
_DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Images in a folder per class, or texts.", show_default=False),
]
_OutOption = Annotated[Path, typer.Option("--out", help="The spec's file.")]
_ForceOption = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]
_MeasureOption = Annotated[bool, typer.Option("--measure", help="Measure ten updates.")]


def init(
    model: _ModelArgument,
    data: _DataOption = None,
    out: _OutOption = DraftRequest.out,
    force: _ForceOption = False,
    measure: _MeasureOption = False,
    allow_factory: options.AllowOption = None,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    verbose: options.VerboseOption = False,
) -> None:
    """Look at a model and data, and write a spec that trains them; print its path.

    Example: sortednet init vit_tiny_patch16_224 --data photos
    """
    options.set_verbosity(quiet, verbose)
    allowed = tuple(allow_factory or ())
    draft = engine.draft(DraftRequest(model, data, out, force, measure, allowed, device))
    for line in _told(draft):
        logger.info("%s", line)
    if as_json:
        print_json(_record(draft))
    else:
        typer.echo(str(draft.path))


def _told(draft: Draft) -> list[str]:
    spec, room = draft.spec, draft.room
    axes = "; ".join(f"{axis} {listed(values)}" for axis, values in spec.space.items())
    lines = [f"{draft.model}, on {draft.data}: {spec.task}", f"space: {axes}"]
    for submodel, cost in draft.costs.items():
        params, macs = format_count(cost.params), format_count(cost.macs)
        lines.append(f"{submodel}: {params} parameters, {macs} MACs per {draft.unit}")
    free = "" if room.free is None else f", {show_bytes(room.free)} are free"
    lines.append(
        f"memory: about {show_bytes(room.needed)} with micro-batches of {room.batch_size}{free}"
    )
    if not room.fits:
        lines.append("it does not fit: take a smaller model, or a device with more memory")
    time = "--measure estimates the time"
    if draft.update_seconds is not None:
        minutes = draft.updates * draft.update_seconds / 60
        time = f"{draft.update_seconds:.2g} s each, about {minutes:.3g} minutes without scoring"
    return [*lines, f"{draft.updates:,} updates: {time}"]


def _record(draft: Draft) -> dict[str, Any]:
    train = draft.spec.train
    return {
        "path": str(draft.path),
        "model": draft.model,
        "data": draft.data,
        "unit": draft.unit,
        "task": draft.spec.task,
        "space": {axis: list(values) for axis, values in draft.spec.space.items()},
        "submodels": [
            {"name": submodel.name, "axes": submodel.axes, **asdict(cost), "flops": 2 * cost.macs}
            for submodel, cost in draft.costs.items()
        ],
        "batch_size": train.batch_size,
        "accumulate": train.accumulate,
        "memory_bytes": draft.room.needed,
        "free_bytes": draft.room.free,
        "updates": draft.updates,
        "update_seconds": draft.update_seconds,
    }
