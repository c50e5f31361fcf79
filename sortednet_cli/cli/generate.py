"""`sortednet generate`."""

from __future__ import annotations

import codecs
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sortednet_cli import engine
from sortednet_cli.cli import options
from sortednet_cli.cli.render import print_json
from sortednet_cli.engine import (
    CalibrateRequest,
    GenerateRequest,
    SamplingOptions,
    SourceRequest,
)
from sortednet_cli.errors import RequestError, listed
from sortednet_cli.logs import logger

if TYPE_CHECKING:
    from sortednet_cli.engine import DecodingStats, Generation

_AGREEMENT = 0.99
_MOST_TOKENS = 128

_PromptOption = Annotated[
    str | None, typer.Option("--prompt", metavar="TEXT", help="Text to continue.")
]
_PromptFileOption = Annotated[
    Path | None,
    typer.Option(
        "--prompt-file",
        metavar="FILE",
        help="File with one prompt per line. Default: standard input.",
    ),
]
_ModeOption = Annotated[
    Literal["greedy", "early-exit", "speculative"],
    typer.Option("--mode", help="Decoding mode."),
]
_MaxNewTokensOption = Annotated[
    int, typer.Option("--max-new-tokens", metavar="N", help="Most new tokens per prompt.")
]
_ChatOption = Annotated[
    bool | None,
    typer.Option(
        "--chat/--no-chat",
        help="Whether a prompt is a user's turn in the tokenizer's chat template. Default: as in"
        " the training.",
    ),
]
_StopOption = Annotated[
    list[str] | None,
    typer.Option("--stop", metavar="TEXT", help="Stop before this text. May be repeated."),
]
_TemperatureOption = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        help="Sample tokens at this temperature. Default: take the most likely token.",
    ),
]
_TopPOption = Annotated[
    float | None,
    typer.Option(
        "--top-p", help="Sample only from the most likely tokens with this total probability."
    ),
]
_SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed for sampling.")]
_DraftDepthOption = Annotated[
    str | None,
    typer.Option(
        "--draft-depth",
        metavar="D|auto",
        help="Number of layers that draft (speculative); 0 looks drafts up in the"
        " text so far and in phrases of the training texts."
        " Default: auto, whatever is fastest.",
    ),
]
_DraftLengthOption = Annotated[
    int | None,
    typer.Option(
        "--draft-length", metavar="N", help="Tokens per draft (speculative). Default: adaptive."
    ),
]
_CalibrateOption = Annotated[
    bool, typer.Option("--calibrate", help="Measure and store the early-exit thresholds.")
]
_AgreementOption = Annotated[
    float | None,
    typer.Option(
        "--agreement",
        help="With --calibrate: least share of tokens that agree with the whole model [0.99].",
    ),
]
_PrecisionOption = Annotated[
    Literal["fp32", "fp16", "bf16"],
    typer.Option("--precision", help="Precision of the weights; on a GPU, of every computation."),
]
_CompileOption = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="First compile passes of one token, for a CPU. Takes seconds; needs a C++ compiler.",
    ),
]


def generate(
    path: options.SourceArgument = None,
    prompt: _PromptOption = None,
    prompt_file: _PromptFileOption = None,
    mode: _ModeOption = "greedy",
    max_new_tokens: _MaxNewTokensOption = _MOST_TOKENS,
    chat: _ChatOption = None,
    stop: _StopOption = None,
    temperature: _TemperatureOption = None,
    top_p: _TopPOption = None,
    seed: _SeedOption = None,
    draft_depth: _DraftDepthOption = None,
    draft_length: _DraftLengthOption = None,
    calibrate: _CalibrateOption = False,
    agreement: _AgreementOption = None,
    width: options.WidthOption = None,
    depth: options.DepthOption = None,
    axis: options.AxisOption = None,
    data: options.DataOption = None,
    precision: _PrecisionOption = "fp32",
    cuda_graphs: options.GraphsOption = "auto",
    compiles: _CompileOption = False,
    allow_factory: options.AllowOption = None,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    verbose: options.VerboseOption = False,
) -> None:
    """Continue texts; with --mode speculative, several tokens are drafted and verified at once.

    Example: sortednet generate --prompt "The with statement" --mode speculative
    """
    options.set_verbosity(quiet, verbose)
    axes = options.read_axes(width, depth, axis)
    source = SourceRequest(path, tuple(allow_factory or ()))
    if calibrate:
        _check_calibrate(
            {
                "--prompt": prompt is not None,
                "--prompt-file": prompt_file is not None,
                "--mode": mode != "greedy",
                "--max-new-tokens": max_new_tokens != _MOST_TOKENS,
                "--chat": chat is not None,
                "--stop": bool(stop),
                "--temperature": temperature is not None,
                "--top-p": top_p is not None,
                "--seed": seed is not None,
                "--draft-depth": draft_depth is not None,
                "--draft-length": draft_length is not None,
                "--precision": precision != "fp32",
                "--cuda-graphs": cuda_graphs != "auto",
                "--compile": compiles,
            }
        )
        target = _read_agreement(agreement)
        _calibrate(CalibrateRequest(source, axes, target, data, device), as_json)
        return
    if agreement is not None or data is not None:
        raise RequestError("--agreement and --data are only for --calibrate")
    stops = _read_stops(max_new_tokens, stop)
    draft = _read_draft(mode, draft_depth, draft_length)
    request = GenerateRequest(
        tuple(_read_prompts(prompt, prompt_file)),
        source,
        axes,
        mode=mode,
        draft_depth=draft[0],
        draft_length=draft[1],
        max_new_tokens=max_new_tokens,
        chat=chat,
        stops=stops,
        sampling=_read_sampling(temperature, top_p, seed),
        precision=precision,
        cuda_graphs=options.read_graphs(cuda_graphs),
        compiles=compiles,
        device=device,
    )
    _print(engine.generate(request), mode, as_json)


def _print(generation: Generation, mode: str, as_json: bool) -> None:
    """Print each text as it is generated, or one JSON document at the end."""
    records = []
    for answer, pieces in generation.answers:
        for piece in pieces:
            if not as_json:
                sys.stdout.write(piece)
                sys.stdout.flush()
        if not as_json:
            sys.stdout.write("\n")
            sys.stdout.flush()
        records.append(answer.record())
    if as_json:
        print_json(_document(generation, mode, records))
    logger.info("%s", _summary(generation.stats))


def _check_calibrate(given: dict[str, bool]) -> None:
    """RequestError if options are given that a calibration has no use for."""
    if names := [name for name, is_given in given.items() if is_given]:
        raise RequestError(
            "--calibrate scores validation data in float32 and writes no text: remove"
            f" {listed(names)}"
        )


def _read_agreement(agreement: float | None) -> float:
    target = _AGREEMENT if agreement is None else agreement
    if not 0 < target <= 1:
        raise RequestError(f"--agreement must be above 0 and at most 1, not {target:g}")
    return target


def _read_stops(max_new_tokens: int, stop: list[str] | None) -> tuple[str, ...]:
    """Check the options that end a completion; return the stop texts."""
    if max_new_tokens < 1:
        raise RequestError(f"--max-new-tokens must be at least 1, not {max_new_tokens}")
    if stop and "" in stop:
        raise RequestError("--stop needs a text that is not empty")
    try:
        "".join(stop or ()).encode()
    except UnicodeEncodeError as error:
        raise RequestError("--stop: not valid UTF-8") from error
    return tuple(stop or ())


def _read_prompts(prompt: str | None, prompt_file: Path | None) -> list[str]:
    """Read the prompts: from `--prompt`, or line by line from a file or standard input."""
    if prompt is not None:
        if prompt_file is not None:
            raise RequestError("give --prompt or --prompt-file, not both")
        return [prompt]
    if prompt_file is not None:
        try:
            return _lines(prompt_file.read_bytes(), str(prompt_file))
        except OSError as error:
            raise RequestError(f"cannot read {prompt_file}: {error.strerror or error}") from error
    if sys.stdin.isatty():
        raise RequestError("give --prompt, --prompt-file, or prompts on standard input")
    return _lines(sys.stdin.buffer.read(), "standard input")


def _lines(raw: bytes, where: str) -> list[str]:
    """Split UTF-8 text into lines; RequestError if one is empty or not valid UTF-8."""
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise RequestError(f"{where}, line {line}: not valid UTF-8") from error
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    for number, content in enumerate(lines, 1):
        if not content.strip():
            raise RequestError(f"{where}, line {number}: the prompt is empty")
    return lines


def _read_draft(
    mode: str, draft_depth: str | None, draft_length: int | None
) -> tuple[int | None, int | None]:
    """Parse depth and length of drafts; None for what decoding should adapt."""
    if mode != "speculative" and (draft_depth is not None or draft_length is not None):
        raise RequestError("--draft-depth and --draft-length are only for --mode speculative")
    if draft_length is not None and draft_length < 1:
        raise RequestError(f"--draft-length must be at least 1, not {draft_length}")
    if draft_depth in (None, "auto"):
        if draft_length is not None:
            raise RequestError("--draft-length needs --draft-depth D, since auto chooses both")
        return None, None
    assert draft_depth is not None
    try:
        return int(draft_depth), draft_length
    except ValueError as error:
        raise RequestError(
            f"--draft-depth must be auto or a whole number, not {draft_depth!r}"
        ) from error


def _read_sampling(
    temperature: float | None, top_p: float | None, seed: int | None
) -> SamplingOptions | None:
    """Parse the sampling options; None if the most likely token is taken instead."""
    if temperature is None:
        if top_p is not None or seed is not None:
            raise RequestError("--top-p and --seed are for sampling: give --temperature too")
        return None
    if not 0 < temperature < float("inf"):
        raise RequestError(f"--temperature must be positive and finite, not {temperature:g}")
    if top_p is not None and not 0 < top_p <= 1:
        raise RequestError(f"--top-p must be above 0 and at most 1, not {top_p:g}")
    if seed is not None and seed < 0:
        raise RequestError(f"--seed must not be negative, but is {seed}")
    return SamplingOptions(temperature, top_p or 1.0, seed or 0)


def _document(generation: Generation, mode: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "run": str(generation.path),
        "submodel": generation.submodel.name,
        "mode": mode,
        "completions": records,
        "statistics": generation.stats.record(),
    }


def _summary(stats: DecodingStats) -> str:
    text = (
        f"{stats.tokens} tokens in {stats.seconds:.2f} s, {stats.tokens_per_second:.1f} per second"
    )
    if stats.passes:
        text += f"; {stats.tokens / stats.passes:.2f} per pass through all layers"
    if stats.acceptance is not None:
        text += f"; {stats.acceptance:.0%} of checked drafts accepted"
    if stats.rounds:
        text += f"; rounds: {', '.join(f'{n} {name}' for name, n in sorted(stats.rounds.items()))}"
    if stats.changed:
        text += f"; {stats.changed} tokens changed when verified one by one"
    if stats.exits:
        counts = ", ".join(f"{count} at {depth}" for depth, count in sorted(stats.exits.items()))
        text += f"; tokens by depth: {counts}"
    return text


def _calibrate(request: CalibrateRequest, as_json: bool) -> None:
    calibrated = engine.calibrate(request)
    thresholds = calibrated.thresholds
    logger.info("wrote %s", calibrated.file)
    if as_json:
        record = thresholds.model_dump(mode="json")
        print_json({"run": str(calibrated.path), "submodel": calibrated.submodel.name, **record})
        return
    for depth, stored in thresholds.exits.items():
        typer.echo(
            f"depth {depth}: threshold {stored.threshold:.4f}; {stored.share:.1%} of tokens leave,"
            f" {stored.agreement:.2%} of them agree"
        )
    rest = 1 - sum(stored.share for stored in thresholds.exits.values())
    typer.echo(
        f"{rest:.1%} go through all layers; {thresholds.agreement:.2%} of {thresholds.tokens:,}"
        " validation tokens agree with the whole model"
    )
