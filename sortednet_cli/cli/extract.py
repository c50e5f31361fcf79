"""`sortednet extract`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sortednet_cli import engine
from sortednet_cli.cli import options
from sortednet_cli.cli.extended import extended, value_of
from sortednet_cli.cli.render import Progress, log_conditions, print_json, show_score
from sortednet_cli.engine import ExtractRequest, SourceRequest
from sortednet_cli.logs import logger
from sortednet_cli.space import format_count

if TYPE_CHECKING:
    from sortednet_cli.engine import Exported, Extraction, Verification

ExtractCommand = extended("out", lambda: [*options.bounds(), *options.formats()])

_OutOption = Annotated[
    Path | None, typer.Option("--out", help="Artifact folder. Default: artifacts/RUN-SUBMODEL.")
]
_ShardSizeOption = Annotated[
    str,
    typer.Option("--max-shard-size", metavar="N", help="Most bytes of one weight file."),
]
_CheckOption = Annotated[
    Literal["auto", "outputs", "tensors"],
    typer.Option(
        "--verify",
        help="Compare tensors, or outputs too. auto: outputs too if the source's weights have"
        " at most 2 GiB.",
    ),
]


def extract(
    context: typer.Context,
    path: options.SourceArgument = None,
    width: options.WidthOption = None,
    depth: options.DepthOption = None,
    axis: options.AxisOption = None,
    out: _OutOption = None,
    shard_size: _ShardSizeOption = "5G",
    check: _CheckOption = "auto",
    runtime: options.FormatRuntimeOption = None,
    latencies: options.LatenciesOption = None,
    data: options.DataOption = None,
    allow_factory: options.AllowOption = None,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    verbose: options.VerboseOption = False,
) -> None:
    """Cut a sub-model out as a standalone model, by its axes or by a budget; print its folder.

    If several costs are bounded, the sub-model satisfies all bounds.

    Example: sortednet extract --max-params 50k
    """
    options.set_verbosity(quiet, verbose)
    request = ExtractRequest(
        SourceRequest(path, tuple(allow_factory or ())),
        axes=options.read_axes(width, depth, axis),
        limits=options.read_limits(context),
        out=out,
        file_format=value_of(context, "format"),
        max_shard_bytes=options.read_count("--max-shard-size", shard_size),
        verify=check,
        data=data,
        device=device,
        runtime=runtime,
        latencies=latencies,
    )
    with Progress(quiet) as progress:
        extraction = engine.extract(request, progress.update)
    _print(extraction, as_json)


def _print(extraction: Extraction, as_json: bool) -> None:
    log_conditions(extraction.conditions)
    artifact = extraction.artifact
    row = artifact.row
    logger.info(
        "extracted %s: %s parameters, %s MACs, verified %s",
        row.submodel,
        format_count(row.params),
        format_count(row.macs),
        _describe_verification(artifact.verified),
    )
    if not as_json:
        typer.echo(str(artifact.path))
        return
    print_json(
        {
            "path": str(artifact.path),
            "submodel": row.record("test"),
            **extraction.conditions,
            "verified": asdict(artifact.verified),
            "loader": artifact.loader,
        }
    )


def _describe_verification(verified: Verification) -> str:
    if verified.max_abs_diff is None:
        return "tensor by tensor"
    text = f"on {verified.samples} samples (largest difference {verified.max_abs_diff:.2g})"
    return text if verified.exported is None else f"{text}; {_describe_file(verified.exported)}"


def _describe_file(exported: Exported) -> str:
    if exported.max_abs_diff is None:
        return f"{exported.file} unverified, as nothing here runs {exported.runtime}"
    text = f"{exported.file} in {exported.runtime} ({exported.max_abs_diff:.2g})"
    if exported.validation is None:
        return text
    floats = exported.validation["float"]
    pairs = (
        f"{name} {show_score(name, value)} (in floats {show_score(name, floats[name])})"
        for name, value in exported.validation["file"].items()
    )
    return f"{text}, on validation data {', '.join(pairs)}"
