"""`sortednet completion`: scripts that complete command lines in bash, zsh and fish.

A script is static. It holds a table of the commands, made from the commands themselves, and a
program in awk that finds what may stand at the cursor; the rest hands both to the shell. Runs and
their axes are read from `runs/` and `artifacts/` when a key is pressed, without Python.
"""

from __future__ import annotations

import re
import shlex
import types
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from sortednet_cli import engine
from sortednet_cli.spec import ImageDataSpec, ModelSpec, RunSpec, TextDataSpec, TrainSpec, presets
from sortednet_cli.spec.vocabulary import FRACTIONS

_ANYTHING, _FILES = "?", ":files"
"""What an option takes of which nothing is known, and a path."""


def completion(
    context: typer.Context,
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="bash, zsh or fish.")],
) -> None:
    """Print a script that completes commands, options and their values in a shell.

    Example: sortednet completion bash > ~/.local/share/bash-completion/completions/sortednet
    """
    typer.echo(script(shell, context.find_root()), nl=False)


def script(shell: str, root: Any) -> str:
    """The script of a shell for all commands of the program, whose context is `root`."""
    quote = _quoted_for_fish if shell == "fish" else shlex.quote
    text = _text(f"sortednet.{shell}")
    table = "\n".join("\t".join(cells) for cells in _table(root))
    return text.replace("{program}", quote(_text("candidates.awk"))).replace(
        "{table}", quote(table)
    )


def _table(root: Any) -> Iterator[tuple[str, str, str, str]]:
    """Rows: a command, an option or the number of an argument, what it takes, its meaning.

    What it takes is empty for a flag, else words, or a kind that `candidates.awk` knows. The number
    of an argument that may be repeated is `+`. The group itself is the command of no name.
    """
    yield "", "1", "@commands", ""
    for name, command in {"": root.command, **root.command.commands}.items():
        if name:
            yield name, "", "", _sentence(command.help)
        kinds, number = get_type_hints(command.callback, include_extras=True), 0
        # Some options are made when a command is called, and kept in its context.
        called = typer.Context(command, help_option_names=root.help_option_names)
        for parameter in command.get_params(called):
            takes = _takes(name, parameter, kinds.get(parameter.name, str))
            if parameter.param_type_name == "argument":
                number += 1
                yield name, "+" if parameter.nargs == -1 else str(number), takes, ""
                continue
            for flag in parameter.opts:
                yield name, flag, takes, _sentence(parameter.help)


def _takes(command: str, parameter: Any, kind: Any) -> str:
    """What an option or argument takes, as the table says it."""
    if getattr(parameter, "is_flag", False):
        return ""
    if known := _KNOWN.get(f"{command} {parameter.name}") or _KNOWN.get(parameter.opts[0]):
        return known if isinstance(known, str) else " ".join(known())
    while get_origin(kind) in (Annotated, Union, types.UnionType, list):
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return " ".join(get_args(kind))
    return _FILES if kind is Path else _ANYTHING


def _spec_keys() -> Iterator[str]:
    """What `--set` takes: every key with its table, up to the value."""
    tables: dict[str, list[Any]] = {
        "model": [ModelSpec],
        "train": [TrainSpec],
        "data": [ImageDataSpec, TextDataSpec],
    }
    tops = set(RunSpec.model_fields) - {"space", *tables}
    axes = {f"space.{axis}" for axis in (*FRACTIONS, "depth")}
    keys = tops | axes
    for table, specs in tables.items():
        keys |= {f"{table}.{key}" for spec in specs for key in spec.model_fields}
    return (f"{key}=" for key in sorted(keys))


_READ_RUNS = ("bench-pack", "eval", "frontier", "extract", "generate", "serve", "info")

_KNOWN: dict[str, Any] = {
    "init model": _FILES,
    "init out": _FILES,
    "push path": "@runs extracted",
    "report out": _FILES,
    "train run": "@runs training",
    "report paths": "@runs",
    **{f"{name} path": "@runs" for name in _READ_RUNS},
    "presets name": presets.names,
    "--preset": presets.names,
    "--set": _spec_keys,
    "--width": "@axis width",
    "--depth": "@axis depth",
    "--axis": "@axes",
    "--cost": lambda: (cost.name for cost in engine.costs()),
    "bench-pack file_format": engine.pack_formats,
    "--format": engine.formats,
    "--runtime": lambda: (name for name in engine.runtimes() if " " not in name),
    "--device": "auto cpu cuda mps xpu",
    "--out": ":folders",
}
"""What options take, and arguments as `COMMAND NAME`, where their types do not say it."""


def _sentence(help_text: str | None) -> str:
    """The first sentence of a help text, on one line."""
    text = " ".join((help_text or "").split())
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0].rstrip(".")


def _text(name: str) -> str:
    return (resources.files(__name__) / name).read_text(encoding="utf-8")


def _quoted_for_fish(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
