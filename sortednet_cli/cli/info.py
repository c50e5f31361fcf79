"""`sortednet info`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sortednet_cli.cli import options
from sortednet_cli.cli.render import print_json
from sortednet_cli.errors import RequestError, plain
from sortednet_cli.logs import logger
from sortednet_cli.space import SearchSpace, SubModel, format_count

if TYPE_CHECKING:
    from sortednet_cli.spec import RunSpec


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
        _print_resources(options.read_spec(preset, config, overrides or []), processes, as_json)
        return
    if overrides or processes is not None:
        raise RequestError("--set and --processes are for --plan with --preset or --config")
    if axes and not plan:
        raise RequestError("axes are for --plan, which prints one sub-model's slices")
    if check:
        _check(path or options.newest_finished(), as_json)
        return
    if plan:
        source = options.find_source(path, allow_factory, axes)
        found = source.plan(source.space.resolve(axes))
        if as_json:
            slices = {name: [p.source, list(p.shape)] for name, p in found.slices.items()}
            print_json({"slices": slices, "statistics": found.statistics, "digest": found.digest})
        else:
            typer.echo(plain(str(found)))
        return
    from sortednet_cli.storage.artifact import ArtifactFolder

    path = path or options.newest_finished()
    facts = _artifact(path) if ArtifactFolder.is_one(path) else _run(path)
    if as_json:
        print_json(facts)
    else:
        width_of_key = max(map(len, facts))
        for key, value in facts.items():
            typer.echo(f"{key:<{width_of_key}}  {plain(_shown(value))}")


def _print_resources(spec: RunSpec, processes: int | None, as_json: bool) -> None:
    from sortednet_cli.cli import resources
    from sortednet_cli.engine.training.preflight import check_plan

    check_plan(spec)  # told before torch is imported

    from sortednet_cli.engine.planning.resources import plan_resources

    found = plan_resources(spec, processes or 1)
    if as_json:
        print_json(resources.record(found))
    else:
        typer.echo(resources.text(found))


def _check(path: Path, as_json: bool) -> None:
    from sortednet_cli.storage.inspection import inspect

    found = inspect(path)
    if as_json:
        print_json(
            {
                "path": str(path),
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
        logger.warning("%s is unfinished: only its newest checkpoint has checksums", path)
    elif found.unexpected:
        logger.warning("without a checksum: %s", ", ".join(found.unexpected))
    typer.echo(f"ok: {len(found.files)} files, {found.num_bytes} bytes")


def _run(path: Path) -> dict[str, Any]:
    from sortednet_cli.storage.run import RunFolder
    from sortednet_cli.storage.sources import is_checkpoint

    if is_checkpoint(path) and not (path / "run.json").exists():
        raise RequestError(
            f"{path} looks like a stock checkpoint, of which nothing is recorded: see its slices"
            f" with --plan, or cut it with: sortednet extract {path}"
        )
    run = RunFolder.open(path)
    spec, manifest = run.spec(), run.manifest()
    space = SearchSpace.of(spec.space)
    facts: dict[str, Any] = {
        "kind": "run",
        "path": str(path),
        "name": spec.name,
        "state": manifest.state,
        "family": spec.model.family,
        "space": space.as_lists(),
        "submodels": len(space),
        "rule": spec.train.rule,
        "data": manifest.data.source,
        "classes": len(manifest.data.classes),
    }
    if manifest.state == "finished":
        rows = run.rows()
        facts["params"] = [min(r.params for r in rows), max(r.params for r in rows)]
        facts["macs"] = [min(r.macs for r in rows), max(r.macs for r in rows)]
        facts["train_seconds"] = manifest.train_seconds
    return facts


def _artifact(path: Path) -> dict[str, Any]:
    from sortednet_cli.storage.artifact import ArtifactFolder

    manifest = ArtifactFolder.open(path).manifest()
    row = manifest.submodel
    return {
        "kind": "artifact",
        "path": str(path),
        "run": manifest.run,
        "submodel": SubModel.of(row.axes).name,
        "family": manifest.root.family,
        "params": row.params,
        "macs": row.macs,
        "metrics": row.metrics,
        "loader": manifest.loader,
        "verified": manifest.verified,
        "plan_digest": manifest.plan_digest,
    }


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key} {_shown(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1000:
        return format_count(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
