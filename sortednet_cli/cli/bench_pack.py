"""`sortednet bench-pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sortednet_cli import engine
from sortednet_cli.cli import options
from sortednet_cli.cli.render import Progress, print_json
from sortednet_cli.cli.resources import show_bytes
from sortednet_cli.engine import BenchPackRequest, SourceRequest
from sortednet_cli.logs import logger

_FormatOption = Annotated[
    str, typer.Option("--format", metavar="NAME", help="Export format of the files, such as onnx.")
]
_OutOption = Annotated[
    Path | None, typer.Option("--out", help="Folder. Default: bench-packs/RUN-FORMAT.")
]
_TotalSizeOption = Annotated[
    str,
    typer.Option("--max-total-size", metavar="N", help="Most bytes of all weights together."),
]


def bench_pack(
    path: options.SourceArgument = None,
    file_format: _FormatOption = BenchPackRequest.file_format,
    out: _OutOption = None,
    total_size: _TotalSizeOption = "4G",
    allow_factory: options.AllowOption = None,
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    verbose: options.VerboseOption = False,
) -> None:
    """Write a folder with which another device measures every sub-model's latency; print its path.

    It holds an exported file of each sub-model and a script, measure.py, that needs their runtime
    alone. `frontier` and `extract` take what the script writes with --latencies.

    Example: sortednet bench-pack runs/digits-resnet --format onnx
    """
    options.set_verbosity(quiet, verbose)
    request = BenchPackRequest(
        SourceRequest(path, tuple(allow_factory or ())),
        file_format=file_format,
        out=out,
        max_total_bytes=options.read_count("--max-total-size", total_size),
    )
    with Progress(quiet) as progress:
        pack = engine.bench_pack(request, progress.update)
    logger.info("%d models, %s", pack.num_models, show_bytes(pack.num_bytes))
    if as_json:
        print_json({"path": str(pack.path), "models": pack.num_models, "bytes": pack.num_bytes})
    else:
        typer.echo(str(pack.path))
