"""`sortednet eval`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sortednet_cli import engine
from sortednet_cli.cli import options
from sortednet_cli.cli.render import Progress, data_console, print_json, rows_table, summary_line
from sortednet_cli.engine import EvaluateRequest, HarnessRequest, SourceRequest
from sortednet_cli.errors import RequestError

if TYPE_CHECKING:
    from sortednet_cli.engine import Evaluation


def evaluate(
    path: options.SourceArgument = None,
    width: options.WidthOption = None,
    depth: options.DepthOption = None,
    axis: options.AxisOption = None,
    every: Annotated[bool, typer.Option("--all", help="Score every sub-model.")] = False,
    split: Annotated[
        Literal["test", "validation", "train"] | None,
        typer.Option("--split", help="Part of the data to score on.", show_default="test"),
    ] = None,
    harness: Annotated[
        str | None,
        typer.Option(
            "--harness",
            metavar="TASK[,TASK]",
            help="Score on tasks of lm-eval instead: names, or YAML files.",
            show_default=False,
        ),
    ] = None,
    harness_path: Annotated[
        Path | None,
        typer.Option(
            "--harness-path",
            metavar="FOLDER",
            help="Folder with tasks of your own for --harness.",
            show_default=False,
        ),
    ] = None,
    harness_limit: Annotated[
        int | None,
        typer.Option(
            "--harness-limit",
            metavar="N",
            help="Score on the first N samples of each task.",
            show_default=False,
        ),
    ] = None,
    harness_chat: Annotated[
        bool,
        typer.Option("--harness-chat", help="Put questions in the tokenizer's chat template."),
    ] = False,
    min_score: options.MinScoreOption = None,
    junit: options.JunitOption = None,
    data: options.DataOption = None,
    allow_factory: options.AllowOption = None,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    verbose: options.VerboseOption = False,
) -> None:
    """Score one sub-model (by default the largest), or all of them.

    With --min-score, each of them must reach it. With --harness, language models are scored on
    tasks of lm-eval, and `frontier` shows these scores too.

    Example: sortednet eval --width 0.75 --depth 4
    """
    options.set_verbosity(quiet, verbose)
    axes = options.read_axes(width, depth, axis)
    if every and axes:
        raise RequestError("--all scores every sub-model: remove --width, --depth and --axis")
    data_options = {"--split": split, "--data": data, "--min-score": min_score, "--junit": junit}
    tasks = _tasks(harness, harness_path, harness_limit, harness_chat, data_options)
    request = EvaluateRequest(
        SourceRequest(path, tuple(allow_factory or ())),
        axes,
        every,
        split or EvaluateRequest.split,
        data,
        device,
        min_score,
        junit,
        tasks,
    )
    with Progress(quiet) as progress:
        evaluation = engine.evaluate(request, progress.update if every else engine.no_progress)
    if evaluation is not None and tasks is not None:
        _print_harness(evaluation, as_json)
    elif evaluation is not None:  # only the first process of a job has the rows
        _print(evaluation, every, as_json)
        options.require_score(evaluation.missed)


def _tasks(
    names: str | None,
    path: Path | None,
    limit: int | None,
    chat: bool,
    others: Mapping[str, object],
) -> HarnessRequest | None:
    """Read the options of `--harness`.

    Args:
        others: options that are for the model's own data.

    Raises:
        RequestError: options are given that do not go together.
    """
    own = {"--harness-path": path, "--harness-limit": limit, "--harness-chat": chat or None}
    wrong = [
        name for name, value in (own if names is None else others).items() if value is not None
    ]
    if wrong and names is None:
        raise RequestError(f"{wrong[0]} needs --harness TASK")
    if wrong:
        raise RequestError(
            f"{wrong[0]} is for the model's own data, and --harness scores on its tasks: give one"
            " of them"
        )
    if names is None:
        return None
    tasks = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    return HarnessRequest(tasks, path, limit, chat)


def _print_harness(evaluation: Evaluation, as_json: bool) -> None:
    rows = evaluation.rows
    if as_json:
        records = [row.record(evaluation.split) for row in rows]
        print_json({"run": str(evaluation.path), "metric": None, "submodels": records})
        return
    data_console().print(rows_table(rows, evaluation.split, None))


def _print(evaluation: Evaluation, every: bool, as_json: bool) -> None:
    rows, split, metric = evaluation.rows, evaluation.split, evaluation.metric
    if as_json:
        records = [row.record(split) for row in rows]
        print_json({"run": str(evaluation.path), "metric": metric, "submodels": records})
        return
    console = data_console()
    console.print(rows_table(rows, split, metric))
    if every:
        console.print(summary_line(rows, split, metric))
