"""`sortednet report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sortednet_cli import engine
from sortednet_cli.cli import options
from sortednet_cli.cli.render import Progress, print_json
from sortednet_cli.engine import ReportRequest

_SourcesArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="RUN|ARTIFACT", help="Default: the newest finished run.", show_default=False
    ),
]
_CostOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cost",
        metavar="NAME",
        help="Further cost to show, such as memory or latency, which take a forward pass of every"
        " sub-model. May be repeated.",
        show_default=False,
    ),
]
_OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE.html", help="HTML file. Default: report.html."),
]


def report(
    paths: _SourcesArgument = None,
    cost: _CostOption = None,
    out: _OutOption = None,
    allow_factory: options.AllowOption = None,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    verbose: options.VerboseOption = False,
) -> None:
    """Write one HTML file in which you explore the sub-models of runs; print its path.

    It shows scores against costs and over axes, training curves and layers, and chooses the best
    sub-model within the budgets that you set. It works offline.

    Example: sortednet report runs/digits-resnet
    """
    options.set_verbosity(quiet, verbose)
    request = ReportRequest(
        tuple(paths or ()),
        costs=tuple(cost or ()),
        out=out,
        allow_factories=tuple(allow_factory or ()),
        device=device,
    )
    with Progress(quiet) as progress:
        path = engine.report(request, progress.update)
    if as_json:
        print_json({"path": str(path)})
    else:
        typer.echo(str(path))
