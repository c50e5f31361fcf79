"""Options that several commands share, and how their texts become requests."""

from __future__ import annotations

from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sortednet_cli import allocator, engine, logs
from sortednet_cli.cli.extended import option, value_of
from sortednet_cli.engine import ExtractRequest, FrontierRequest
from sortednet_cli.errors import RequestError, listed
from sortednet_cli.space import parse_count

if TYPE_CHECKING:
    from sortednet_cli.spec import RunSpec

SourceArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="RUN|ARTIFACT", help="Default: the newest finished run.", show_default=False
    ),
]
PresetOption = Annotated[
    str | None, typer.Option("--preset", help="A preset's name: see `sortednet presets`.")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="A spec file in TOML.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=V", help="Override a key: --set train.lr=0.05."),
]
WidthOption = Annotated[
    float | None,
    typer.Option("--width", help="Width, as a fraction of the root's.", show_default=False),
]
DepthOption = Annotated[
    int | None, typer.Option("--depth", help="Depth, in blocks.", show_default=False)
]
AxisOption = Annotated[
    list[str] | None,
    typer.Option("--axis", metavar="NAME=V", help="Any axis by name.", show_default=False),
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="A data folder, or a tar of one.", show_default=False),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        envvar="SORTEDNET_DEVICE",
        help="The device to compute on: auto, cpu, cuda, cuda:N, mps or xpu.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="More log messages.")]
AllowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-factory",
        metavar="MODULE:NAME",
        help="Allow the model code that a custom run or artifact names.",
        show_default=False,
    ),
]


def set_verbosity(quiet: bool, verbose: bool) -> None:
    """Configure logging; RequestError if both are asked for."""
    if quiet and verbose:
        raise RequestError("--quiet and --verbose exclude each other")
    logs.configure(-1 if quiet else 1 if verbose else 0)
    logs.logger.debug("%s", allocator.said())


def read_axes(
    width: float | None, depth: int | None, others: list[str] | None
) -> dict[str, int | float]:
    """Collect axis values from the command line; RequestError if one is named twice."""
    axes: dict[str, int | float] = {}
    given: list[tuple[str, int | float | None]] = [("width", width), ("depth", depth)]
    for text in others or ():
        name, equals, value = text.partition("=")
        try:
            given.append((name, float(value)))
        except ValueError:
            equals = ""
        if not equals or not name:
            raise RequestError(f"--axis {text!r}: write it as name=number")
    for name, number in given:
        if number is None:
            continue
        if name in axes:
            raise RequestError(f"{name} is given twice")
        axes[name] = number
    return axes


def bounds() -> list[Parameter]:
    """Describe one option for each cost: the most of it."""
    return [option(cost.name, cost.flag, metavar="N", help=cost.help) for cost in engine.costs()]


def read_limits(context: typer.Context) -> dict[str, str]:
    """Collect the limits of the `bounds` that were given, by the names of their costs."""
    given = {cost.name: value_of(context, cost.name) for cost in engine.costs()}
    return {name: text for name, text in given.items() if text is not None}


def costs() -> list[Parameter]:
    """Describe the option `--cost`."""
    names = listed(cost.name for cost in engine.costs())
    words = f"The cost to weigh against the score: {names}. The unit may be left out."
    return [option("cost", "--cost", FrontierRequest.cost, metavar="NAME", help=words)]


def formats() -> list[Parameter]:
    """Describe the option `--format`."""
    words = f"Write this as well as safetensors: {listed(engine.formats())}."
    return [option("format", "--format", ExtractRequest.file_format, metavar="NAME", help=words)]


def read_count(option: str, text: str) -> int:
    """Read a number such as 50k or 1.5M; RequestError names the option."""
    try:
        return parse_count(text)
    except RequestError as error:
        raise RequestError(f"{option}: {error}") from error


def read_spec(
    preset: str | None, config: Path | None, overrides: list[str], data: Path | None = None
) -> RunSpec:
    """Read the spec of a preset or a file; RequestError unless one of them is named."""
    from sortednet_cli.spec import load_preset, load_spec_file

    if (preset is None) == (config is None):
        raise RequestError("give one of --preset NAME and --config FILE (see: sortednet presets)")
    if data is not None:
        overrides = [*overrides, f"data.path={data}"]
    if preset is not None:
        return load_preset(preset, overrides)
    assert config is not None
    return load_spec_file(config, overrides)
