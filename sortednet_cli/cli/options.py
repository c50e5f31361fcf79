"""Options that several commands share, and the functions that parse their values."""

from __future__ import annotations

from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sortednet_cli import allocator, engine, logs
from sortednet_cli.cli.extended import option, value_of
from sortednet_cli.engine import ExtractRequest, FrontierRequest
from sortednet_cli.errors import RequestError, WorkError, listed
from sortednet_cli.space import parse_count

if TYPE_CHECKING:
    from sortednet_cli.engine import Cost
    from sortednet_cli.spec import RunSpec

SourceArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="RUN|ARTIFACT", help="Default: the newest finished run.", show_default=False
    ),
]
PresetOption = Annotated[
    str | None, typer.Option("--preset", help="Name of a preset; `sortednet presets` lists them.")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Spec file in TOML.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="A.B=V",
        help="Override a spec key, as in train.lr=0.05; train.clip= removes it. May be repeated.",
    ),
]
WidthOption = Annotated[
    float | None,
    typer.Option("--width", help="Width, as a fraction of the root network's.", show_default=False),
]
DepthOption = Annotated[
    int | None, typer.Option("--depth", help="Depth, in blocks.", show_default=False)
]
AxisOption = Annotated[
    list[str] | None,
    typer.Option(
        "--axis",
        metavar="NAME=V",
        help="Value of any axis. May be repeated.",
        show_default=False,
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Data folder, or a tar of one.", show_default=False),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        envvar="SORTEDNET_DEVICE",
        help="Device to compute on: auto, cpu, cuda, cuda:N, mps or xpu.",
    ),
]
GraphsOption = Annotated[
    Literal["auto", "true", "false"],
    typer.Option("--cuda-graphs", help="Replay passes as CUDA graphs. auto: where it can be done."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Log only warnings and errors.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Log debug messages too.")]
RuntimeOption = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        metavar="NAME",
        help="Measure latency in torch, or in an export format's runtime, such as onnxruntime.",
        show_default="torch",
    ),
]
FormatRuntimeOption = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        metavar="NAME",
        help="Measure latency in torch, or in an export format's runtime, such as onnxruntime.",
        show_default="that of --format",
    ),
]
LatenciesOption = Annotated[
    Path | None,
    typer.Option(
        "--latencies",
        metavar="FILE",
        help="Take latencies from the file that another device wrote; see `bench-pack`.",
        show_default=False,
    ),
]
MinScoreOption = Annotated[
    float | None,
    typer.Option(
        "--min-score",
        metavar="SCORE",
        help="Exit with 1 if the score is worse: accuracy (0 to 1) below it, or perplexity above.",
        show_default=False,
    ),
]
JunitOption = Annotated[
    Path | None,
    typer.Option("--junit", metavar="FILE", help="Write a JUnit file.", show_default=False),
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-factory",
        metavar="MODULE:NAME",
        help="Allow a custom run or artifact to run this factory. May be repeated.",
        show_default=False,
    ),
]


def set_verbosity(quiet: bool, verbose: bool) -> None:
    """Configure logging; RequestError if both options are given."""
    if quiet and verbose:
        raise RequestError("give --quiet or --verbose, not both")
    logs.configure(-1 if quiet else 1 if verbose else 0)
    logs.logger.debug("%s", allocator.status())


def read_graphs(text: Literal["auto", "true", "false"]) -> bool | Literal["auto"]:
    """Parse the value of `--cuda-graphs`."""
    return text if text == "auto" else text == "true"


def read_axes(
    width: float | None, depth: int | None, others: list[str] | None
) -> dict[str, int | float]:
    """Parse axis values of the command line; RequestError if one is malformed or given twice."""
    axes: dict[str, int | float] = {}
    given: list[tuple[str, int | float | None]] = [("width", width), ("depth", depth)]
    for text in others or ():
        name, equals, value = text.partition("=")
        try:
            given.append((name, float(value)))
        except ValueError:
            equals = ""
        if not equals or not name:
            raise RequestError(f"--axis {text!r}: write it as NAME=NUMBER")
    for name, number in given:
        if number is None:
            continue
        if name in axes:
            raise RequestError(f"the axis {name} is given twice")
        axes[name] = number
    return axes


def bounds() -> list[Parameter]:
    """Describe the options that bound a cost, one for each cost."""
    return [option(_bound(cost), cost.flag, metavar="N", help=cost.help) for cost in engine.costs()]


def read_limits(context: typer.Context) -> dict[str, str]:
    """Return the limits given with the options of `bounds`, by the name of the cost."""
    given = {cost.name: value_of(context, _bound(cost)) for cost in engine.costs()}
    return {name: text for name, text in given.items() if text is not None}


def _bound(cost: Cost) -> str:
    """Name the option of a cost apart from all others, such as `--cost`."""
    return f"cost_{cost.name}"


def costs() -> list[Parameter]:
    """Describe the option `--cost`."""
    names = listed(cost.name for cost in engine.costs())
    text = f"Cost to weigh against the score: {names}. `latency` means `latency_ms`."
    return [option("cost", "--cost", FrontierRequest.cost, metavar="NAME", help=text)]


def formats() -> list[Parameter]:
    """Describe the option `--format`."""
    text = f"Further file to write beside the safetensors files: {listed(engine.formats())}."
    return [option("format", "--format", ExtractRequest.file_format, metavar="NAME", help=text)]


def require_score(missed: str | None) -> None:
    """End with exit code 1 where a score misses `--min-score`, once the data are printed."""
    if missed is not None:
        raise WorkError(missed)


def read_count(option: str, text: str) -> int:
    """Parse a number such as 50k or 1.5M; RequestError with the option's name if it is none."""
    try:
        return parse_count(text)
    except RequestError as error:
        raise RequestError(f"{option}: {error}") from error


def read_spec(
    preset: str | None, config: Path | None, overrides: list[str], data: Path | None = None
) -> RunSpec:
    """Read the spec of a preset or a file.

    Raises:
        RequestError: neither or both are given, or the spec is wrong.
    """
    from sortednet_cli.spec import load_preset, load_spec_file

    if (preset is None) == (config is None):
        raise RequestError("give one of --preset NAME and --config FILE (see: sortednet presets)")
    if data is not None:
        overrides = [*overrides, f"data.path={data}"]
    if preset is not None:
        return load_preset(preset, overrides)
    assert config is not None
    return load_spec_file(config, overrides)
