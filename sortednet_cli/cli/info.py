"""`sortednet info`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sortednet_cli import engine
from sortednet_cli.cli import options, resources
from sortednet_cli.cli.render import print_json
from sortednet_cli.engine import SourceRequest
from sortednet_cli.errors import RequestError, plain
from sortednet_cli.logs import logger
from sortednet_cli.space import format_count

if TYPE_CHECKING:
    pass

if TYPE_CHECKING:
    from sortednet_cli.engine import Inspection, SlicePlan


def info(
    path: options.SourceArgument = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Slices of a sub-model, or what training a spec takes."),
    ] = False,
    preset: options.PresetOption = None,
    config: options.ConfigOption = None,
    overrides: options.SetOption = None,
    processes: Annotated[
        int | None,
        typer.Option("--processes", min=1, help="How many would train a spec.", show_default=False),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Compare every file with its checksum; 2 if one differs."),
    ] = False,
    width: options.WidthOption = None,
    depth: options.DepthOption = None,
    axis: options.AxisOption = None,
    allow_factory: options.AllowOption = None,
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    verbose: options.VerboseOption = False,
) -> None:
    """Say what a run or an artifact is. With --plan: where a sub-model's tensors lie in it.

    With --plan and a preset or a spec file: what training it would take.
    With --check: whether each of its files is what it was when it was written.

    Example: sortednet info runs/digits-resnet
    """
    options.set_verbosity(quiet, verbose)
    axes = options.read_axes(width, depth, axis)
    if check and plan:
        raise RequestError("--check and --plan are two questions: ask one")
    if preset is not None or config is not None:
        if not plan or path is not None or axes:
            raise RequestError(
                "--preset and --config are for --plan, which then takes no run, artifact or axes"
            )
        found = engine.plan(options.read_spec(preset, config, overrides or []), processes or 1)
        if as_json:
            print_json(resources.record(found))
        else:
            typer.echo(resources.text(found))
        return
    if overrides or processes is not None:
        raise RequestError("--set and --processes are for --plan with --preset or --config")
    if axes and not plan:
        raise RequestError("axes are for --plan, which prints one sub-model's slices")
    if check:
        _print_check(engine.inspect(path), as_json)
        return
    if plan:
        source = SourceRequest(path, tuple(allow_factory or ()))
        _print_slices(engine.slices(source, axes), as_json)
        return
    facts = engine.describe(path)
    if as_json:
        print_json(facts)
    else:
        width_of_key = max(map(len, facts))
        for key, value in facts.items():
            typer.echo(f"{key:<{width_of_key}}  {plain(_shown(value))}")


def _print_slices(found: SlicePlan, as_json: bool) -> None:
    if as_json:
        slices = {name: [p.source, list(p.shape)] for name, p in found.slices.items()}
        print_json({"slices": slices, "statistics": found.statistics, "digest": found.digest})
    else:
        typer.echo(plain(str(found)))


def _print_check(found: Inspection, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "path": str(found.path),
                "kind": found.kind,
                "ok": True,
                "finished": found.finished,
                "files": len(found.files),
                "bytes": found.num_bytes,
                "unexpected": found.unexpected,
            }
        )
        return
    if not found.finished:
        logger.warning("%s is unfinished: only its newest checkpoint has checksums", found.path)
    elif found.unexpected:
        logger.warning("without a checksum: %s", ", ".join(found.unexpected))
    typer.echo(f"ok: {len(found.files)} files, {found.num_bytes} bytes")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key} {_shown(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1000:
        return format_count(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
