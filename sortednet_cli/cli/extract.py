"""`sortednet extract`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sortednet_cli.cli import options
from sortednet_cli.cli.extended import extended, value_of
from sortednet_cli.cli.pricing import reporting, tell_conditions
from sortednet_cli.cli.render import print_json
from sortednet_cli.errors import RequestError
from sortednet_cli.logs import logger
from sortednet_cli.space import format_count

if TYPE_CHECKING:
    from sortednet_cli.engine.export.extract import Verification
    from sortednet_cli.storage.sources import StoredSource

ExtractCommand = extended("out", lambda: [*options.bounds(), *options.formats()])


def extract(
    context: typer.Context,
    path: options.SourceArgument = None,
    width: options.WidthOption = None,
    depth: options.DepthOption = None,
    axis: options.AxisOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Default: artifacts/RUN-SUBMODEL.")
    ] = None,
    shard_size: Annotated[
        str,
        typer.Option("--max-shard-size", metavar="N", help="Bytes of one file of weights."),
    ] = "5G",
    check: Annotated[
        Literal["auto", "outputs", "tensors"],
        typer.Option(
            "--verify",
            help="auto: outputs too, where the source's weights are 2 GiB or less.",
        ),
    ] = "auto",
    data: options.DataOption = None,
    allow_factory: options.AllowOption = None,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    verbose: options.VerboseOption = False,
) -> None:
    """Cut a sub-model out as a standalone model, by its axes or by a budget; print its folder.

    Bounds on several costs hold together.

    Example: sortednet extract --max-params 50k
    """
    from sortednet_cli.engine.evaluation.budget import check_selection
    from sortednet_cli.engine.export.formats import find_format

    options.set_verbosity(quiet, verbose)
    axes = options.read_axes(width, depth, axis)
    budget = options.read_budget(context)
    further = find_format(value_of(context, "format"))
    if axes and budget:
        raise RequestError("name the sub-model by its axes or by a budget, not both")
    if out is not None:
        options.check_free(out)
    most_bytes = options.read_count("--max-shard-size", shard_size)

    def can_be_cut(stored: StoredSource) -> None:
        if further is not None:
            further.check(stored.kind)
        if budget is not None:
            check_selection(stored, budget)
        if data is not None:
            stored.check_data(data)

    source = options.find_source(path, allow_factory, axes, can_be_cut)
    choice = None
    if budget is not None:
        from sortednet_cli.engine.evaluation.frontier import select

        with reporting(quiet) as report:
            choice = select(source, budget, device, report)
        tell_conditions(choice.conditions)
    submodel = source.space.resolve(axes) if choice is None else choice.row.submodel

    from sortednet_cli.engine.export.extract import extract as cut
    from sortednet_cli.engine.export.extract import needs_data
    from sortednet_cli.storage.files import Taken, free_name

    place = Path("artifacts") / f"{source.stem}-{submodel}"
    opened = None
    if needs_data(source, submodel):
        opened = source.open_data(None if data is None else str(data))
    while True:
        try:
            done = cut(
                source,
                submodel,
                out or free_name(place),
                opened,
                further,
                most_shard_bytes=most_bytes,
                check_outputs=None if check == "auto" else check == "outputs",
            )
            break
        except Taken:
            if out is not None:
                raise  # Without --out, another extraction took the name first: take the next.
    logger.info(
        "extracted %s: %s parameters, %s MACs, verified %s",
        done.row.submodel,
        format_count(done.row.params),
        format_count(done.row.macs),
        _said(done.verified),
    )
    if as_json:
        from dataclasses import asdict, replace

        row = replace(done.row, costs=choice.row.costs if choice else {})
        print_json(
            {
                "path": str(done.path),
                "submodel": row.record("test"),
                **(choice.conditions if choice else {}),
                "verified": asdict(done.verified),
                "loader": done.loader,
            }
        )
    else:
        typer.echo(str(done.path))


def _said(verified: Verification) -> str:
    if verified.max_abs_diff is None:
        return "tensor by tensor"
    return f"on {verified.samples} samples (largest difference {verified.max_abs_diff:.2g})"
