"""`sortednet generate`."""

from __future__ import annotations

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
from sortednet_cli.errors import RequestError
from sortednet_cli.logs import logger

if TYPE_CHECKING:
    from sortednet_cli.engine import DecodingStats, Generation

_AGREEMENT = 0.99


def generate(
    path: options.SourceArgument = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", metavar="TEXT", help="The text to continue.")
    ] = None,
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            "--prompt-file", metavar="FILE", help="One prompt a line. Default: standard input."
        ),
    ] = None,
    mode: Annotated[
        Literal["greedy", "early-exit", "speculative"],
        typer.Option("--mode", help="Decoding mode."),
    ] = "greedy",
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", metavar="N", help="Most tokens for a prompt.")
    ] = 128,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", metavar="TEXT", help="End before this text.")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature", help="Sample tokens; without it the most likely one is taken."
        ),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p", help="Sample from the most likely tokens with this total probability."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of sampling.")] = None,
    draft_depth: Annotated[
        str | None,
        typer.Option(
            "--draft-depth", metavar="D|auto", help="Layers that draft, in speculative mode."
        ),
    ] = None,
    draft_length: Annotated[
        int | None,
        typer.Option("--draft-length", metavar="N", help="Tokens drafted; default: adaptive."),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure and store the thresholds of early exit.")
    ] = False,
    agreement: Annotated[
        float | None,
        typer.Option("--agreement", help="With --calibrate: share of tokens to agree [0.99]."),
    ] = None,
    width: options.WidthOption = None,
    depth: options.DepthOption = None,
    axis: options.AxisOption = None,
    data: options.DataOption = None,
    precision: Annotated[
        Literal["fp32", "bf16"], typer.Option("--precision", help="Of weights and cache.")
    ] = "fp32",
    allow_factory: options.AllowOption = None,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    verbose: options.VerboseOption = False,
) -> None:
    """Continue texts; with --mode speculative its first layers draft for the others.

    Example: sortednet generate --prompt "The with statement" --mode speculative
    """
    options.set_verbosity(quiet, verbose)
    axes = options.read_axes(width, depth, axis)
    source = SourceRequest(path, tuple(allow_factory or ()))
    if not calibrate and (agreement is not None or data is not None):
        raise RequestError("--agreement and --data belong to --calibrate")
    if calibrate:
        if prompt is not None or prompt_file is not None:
            raise RequestError("--calibrate takes no prompt: it measures on the validation part")
        target = _AGREEMENT if agreement is None else agreement
        if not 0 < target <= 1:
            raise RequestError(f"--agreement is above 0 and at most 1, not {target:g}")
        _calibrate(CalibrateRequest(source, axes, target, data, device), as_json)
        return
    if max_new_tokens < 1:
        raise RequestError(f"--max-new-tokens is at least 1, not {max_new_tokens}")
    if stop and "" in stop:
        raise RequestError("--stop needs a text")
    depth_of_draft, length_of_draft = _read_draft(mode, draft_depth, draft_length)
    request = GenerateRequest(
        tuple(_read_prompts(prompt, prompt_file)),
        source,
        axes,
        mode=mode,
        draft_depth=depth_of_draft,
        draft_length=length_of_draft,
        max_new_tokens=max_new_tokens,
        stops=tuple(stop or ()),
        sampling=_read_sampling(temperature, top_p, seed),
        precision=precision,
        device=device,
    )
    _print(engine.generate(request), mode, as_json)


def _print(found: Generation, mode: str, as_json: bool) -> None:
    """Print texts as they come, or one document of all of them."""
    records = []
    for answer, pieces in found.answers:
        for piece in pieces:
            if not as_json:
                sys.stdout.write(piece)
                sys.stdout.flush()
        if not as_json:
            sys.stdout.write("\n")
            sys.stdout.flush()
        records.append(answer.record())
    if as_json:
        print_json(_document(found, mode, records))
    logger.info("%s", _summary(found.stats))


def _read_prompts(prompt: str | None, prompt_file: Path | None) -> list[str]:
    """The prompts of an option, a file's lines or those of standard input."""
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
    """Depth and length of drafts; None is found while decoding."""
    if mode != "speculative" and (draft_depth is not None or draft_length is not None):
        raise RequestError("--draft-depth and --draft-length belong to --mode speculative")
    if draft_length is not None and draft_length < 1:
        raise RequestError(f"--draft-length is at least 1, not {draft_length}")
    if draft_depth in (None, "auto"):
        if draft_length is not None:
            raise RequestError("--draft-length needs a --draft-depth: auto finds both")
        return None, None
    assert draft_depth is not None
    try:
        return int(draft_depth), draft_length
    except ValueError as error:
        raise RequestError(f"--draft-depth is auto or a depth, not {draft_depth!r}") from error


def _read_sampling(
    temperature: float | None, top_p: float | None, seed: int | None
) -> SamplingOptions | None:
    """How tokens are drawn; None where the best one is taken."""
    if temperature is None:
        if top_p is not None or seed is not None:
            raise RequestError("--top-p and --seed are for drawing: give --temperature")
        return None
    if not 0 < temperature < float("inf"):
        raise RequestError(f"--temperature is positive, not {temperature:g}")
    if top_p is not None and not 0 < top_p <= 1:
        raise RequestError(f"--top-p is above 0 and at most 1, not {top_p:g}")
    if seed is not None and seed < 0:
        raise RequestError(f"--seed is not negative, and not {seed}")
    return SamplingOptions(temperature, top_p or 1.0, seed or 0)


def _document(made: Generation, mode: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "run": str(made.path),
        "submodel": made.submodel.name,
        "mode": mode,
        "completions": records,
        "statistics": made.stats.record(),
    }


def _summary(stats: DecodingStats) -> str:
    text = f"{stats.tokens} tokens in {stats.seconds:.2f} s: {stats.tokens_per_second:.1f} a second"
    if stats.passes:
        text += f"; {stats.tokens / stats.passes:.2f} for a pass through all layers"
    if stats.acceptance is not None:
        text += f"; {stats.acceptance:.0%} of drafts accepted"
    if stats.changed:
        text += f"; {stats.changed} tokens differ from what joint checking said"
    if stats.exits:
        left = ", ".join(f"{count} at {depth}" for depth, count in sorted(stats.exits.items()))
        text += f"; tokens by depth: {left}"
    return text


def _calibrate(request: CalibrateRequest, as_json: bool) -> None:
    done = engine.calibrate(request)
    found = done.thresholds
    logger.info("wrote %s", done.file)
    if as_json:
        record = found.model_dump(mode="json")
        print_json({"run": str(done.path), "submodel": done.submodel.name, **record})
        return
    for exit_depth, stored in found.exits.items():
        typer.echo(
            f"depth {exit_depth}: leave with {stored.threshold:.4f};"
            f" {stored.share:.1%} of tokens, {stored.agreement:.2%} of them agree"
        )
    rest = 1 - sum(stored.share for stored in found.exits.values())
    typer.echo(
        f"{rest:.1%} go through all layers; {found.agreement:.2%} of {found.tokens:,}"
        " validation tokens agree with the whole model"
    )
