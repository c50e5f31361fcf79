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
    from sortednet_cli.engine import Description, Inspection, ResourcePlan, SlicePlan

_PlanOption = Annotated[
    bool,
    typer.Option(
        "--plan",
        help="Print a sub-model's slices, or with a spec the resources that training it needs.",
    ),
]
_ProcessesOption = Annotated[
    int | None,
    typer.Option(
        "--processes",
        min=1,
        help="With --plan and a spec: number of processes.",
        show_default=False,
    ),
]
_CheckOption = Annotated[
    bool,
    typer.Option(
        "--check", help="Compare every file with its checksum; exit code 2 if one differs."
    ),
]


def info(
    path: options.SourceArgument = None,
    plan: _PlanOption = False,
    preset: options.PresetOption = None,
    config: options.ConfigOption = None,
    overrides: options.SetOption = None,
    processes: _ProcessesOption = None,
    check: _CheckOption = False,
    width: options.WidthOption = None,
    depth: options.DepthOption = None,
    axis: options.AxisOption = None,
    allow_factory: options.AllowOption = None,
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    verbose: options.VerboseOption = False,
) -> None:
    """Describe a run or an artifact, plan a sub-model or a training, or verify files.

    With --plan: print which slices of which tensors make up a sub-model. With --plan and a preset
    or a spec file: print the memory, computation, communication and disk space that training needs.
    With --check: verify that no file has changed since it was written.

    Example: sortednet info runs/digits-resnet
    """
    options.set_verbosity(quiet, verbose)
    axes, allowed = options.read_axes(width, depth, axis), tuple(allow_factory or ())
    if check and plan:
        raise RequestError("give --check or --plan, not both")
    if preset is not None or config is not None:
        if not plan or path is not None or axes:
            raise RequestError(
                "--preset and --config need --plan, and then no run, artifact or axes"
            )
        spec = options.read_spec(preset, config, overrides or [])
        _print_resources(engine.plan(spec, processes or 1, allowed), as_json)
        return
    if overrides or processes is not None:
        raise RequestError("--set and --processes need --plan with --preset or --config")
    if axes and not plan:
        raise RequestError("--width, --depth and --axis need --plan")
    if check:
        _print_check(engine.inspect(path), as_json)
    elif plan:
        _print_slices(engine.slices(SourceRequest(path, allowed), axes), as_json)
    else:
        _print_facts(engine.describe(path), as_json)


def _print_resources(plan: ResourcePlan, as_json: bool) -> None:
    if as_json:
        print_json(resources.record(plan))
    else:
        typer.echo(resources.text(plan))


def _print_facts(facts: Description, as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    key_width = max(map(len, facts))
    for key, value in facts.items():
        typer.echo(f"{key:<{key_width}}  {plain(_format_fact(value))}")


def _print_slices(plan: SlicePlan, as_json: bool) -> None:
    if as_json:
        slices = {name: piece.described() for name, piece in plan.slices.items()}
        print_json({"slices": slices, "statistics": plan.statistics, "digest": plan.digest})
    else:
        typer.echo(plain(str(plan)))


def _print_check(inspection: Inspection, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "path": str(inspection.path),
                "kind": inspection.kind,
                "ok": True,
                "finished": inspection.finished,
                "files": len(inspection.files),
                "bytes": inspection.num_bytes,
                "unexpected": inspection.unexpected,
            }
        )
        return
    if not inspection.finished:
        logger.warning(
            "%s is unfinished: only its newest checkpoint has checksums", inspection.path
        )
    elif inspection.unexpected:
        logger.warning("files without a checksum: %s", ", ".join(inspection.unexpected))
    typer.echo(f"ok: {len(inspection.files)} files, {inspection.num_bytes} bytes")


def _format_fact(value: Any) -> str:
    if isinstance(value, dict):
        known = {key: item for key, item in value.items() if item is not None}
        return "; ".join(f"{key} {_format_fact(item)}" for key, item in known.items())
    if isinstance(value, list):
        return ", ".join(_format_fact(item) for item in value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1000:
        return format_count(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
