"""Reference pages, made from the program itself.

    python -m docs.generate            # write every generated page again
    python -m docs.generate --check    # exit code 1 and the names, if one is stale

Commands come from the command line's own help, spec keys from the models and the docstrings of
their attributes, the Python API from the docstrings of `sortednet_cli.__all__`, presets from their
files, architectures of transformers from their declarations, result files from themselves. To
change a page, change those texts.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import re
import sys
import textwrap
import tomllib
import types
from collections.abc import Callable, Iterable, Iterator
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import sortednet_cli
from docs import architectures, result_files
from sortednet_cli import spec
from sortednet_cli.spec import presets

_WIDTH = 88
"""Characters that a block of code holds on a page."""

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Made by `python -m docs.generate`: change the program's own texts, not this page. -->"

Lines = Iterator[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args()
    stale = {path: text for path, text in pages().items() if _old(path) != text}
    for path, text in stale.items():
        if not options.check:
            path.write_text(text, encoding="utf-8")
        print(f"docs/reference/{path.name}: {'stale' if options.check else 'written'}")
    sys.exit(bool(options.check and stale))


def pages() -> dict[Path, str]:
    """The text of every generated page by its path."""
    makers: dict[str, Callable[[], Lines]] = {
        "architectures.md": architectures.page,
        "commands.md": _commands,
        "spec.md": _spec_keys,
        "python.md": _python_api,
        "presets.md": _presets,
        "results.md": result_files.page,
    }
    return {
        REFERENCE / name: "\n".join([NOTE, "", *make()]).rstrip() + "\n"
        for name, make in makers.items()
    }


def _old(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Lines:
    rows = list(rows)
    for cells in (header, ("---",) * len(header), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


# Commands


def _commands() -> Lines:
    import typer

    from sortednet_cli.cli.main import app

    group: Any = typer.main.get_command(app)
    yield from ["# Commands", "", group.help, ""]
    yield "Data goes to standard output; progress, logs and warnings go to standard error. Every"
    yield "command takes `--help`. [Exit codes](exit-codes.md) are the same for all commands, and"
    yield "[JSON documents](files.md#json) share one record for a sub-model."
    yield ""
    rows = [
        (f"[`{name}`](#sortednet-{name})", _paragraphs(command.help)[0])
        for name, command in group.commands.items()
    ]
    yield from _table(("command", "what it does"), rows)
    for name, command in group.commands.items():
        yield ""
        yield from _command(name, command)


def _command(name: str, command: Any) -> Lines:
    import typer

    parameters = command.get_params(typer.Context(command))  # some are made when it is called
    *about, example = _paragraphs(command.help)
    yield from [f"## sortednet {name}", ""]
    for paragraph in about:
        yield from [paragraph, ""]
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    usage = "".join(f" {_usage(p)}" for p in arguments)
    example = example.removeprefix("Example: ")
    yield from ["```console", f"$ sortednet {name}{usage} [OPTIONS]", f"$ {example}", "```", ""]
    named = [(f"`{_argument(p)}`", p) for p in arguments]
    named += [
        (", ".join(f"`{flag}`" for flag in p.opts), p)
        for p in parameters
        if p.param_type_name == "option" and "--help" not in p.opts
    ]
    kinds = get_type_hints(command.callback, include_extras=True)
    rows = [
        (flags, _values(p, kinds.get(p.name, str)), _default(p), _meaning(p)) for flags, p in named
    ]
    yield from _table(("option", "value", "default", "meaning"), rows)


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n")]


def _usage(parameter: Any) -> str:
    name = _argument(parameter)
    return f"{name if parameter.required else f'[{name}]'}{'...' if parameter.nargs < 0 else ''}"


def _argument(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name).upper().replace("|", " or ")


def _values(parameter: Any, kind: Any) -> str:
    """What an option takes: the values of its annotation, or a placeholder."""
    if parameter.param_type_name == "argument" or getattr(parameter, "is_flag", False):
        return ""
    while get_origin(kind) in (Annotated, Union, types.UnionType, list):
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    return f"`{parameter.metavar or _PLACEHOLDERS[kind]}`"


_PLACEHOLDERS = {str: "TEXT", int: "N", float: "NUMBER", Path: "PATH"}


def _default(parameter: Any) -> str:
    value = parameter.default
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return f"`{value}`"


def _meaning(parameter: Any) -> str:
    variable = getattr(parameter, "envvar", None)
    told = f" The environment variable `{variable}` sets it for every command." if variable else ""
    return (parameter.help or "") + told


# Spec keys


def _spec_keys() -> Lines:
    yield from ["# Spec keys", ""]
    yield "A spec is a TOML file. `sortednet presets show NAME` prints one to start from, and"
    yield "`--set TABLE.KEY=VALUE` changes one key for one training, and `--set TABLE.KEY=` removes"
    yield "one that a preset has, so that its default holds. An unknown key is an error"
    yield "that lists the legal ones; all errors of a spec are reported at once."
    yield ""
    yield "See [families](models.md), [sources](data.md), [rules](../explanation/training.md)."
    yield ""
    yield "`train.updates` and `train.epochs` are one quantity: give exactly one. With `--set`, one"
    yield "replaces the other, and the last of several values for a key counts."
    tables: list[tuple[str, type[Any], type[Any] | None]] = [
        ("Top level", spec.RunSpec, None),
        ("`[model]`", spec.ModelSpec, None),
        ("`[model.axes.NAME]`, for `custom` models", spec.CustomAxis, None),
        ("`[model.blocks]`, for `custom` models", spec.CustomBlocks, None),
        ("`[train]`", spec.TrainSpec, None),
        ("`[data]`", spec.DataSpec, None),
        ("`[data]` of images", spec.ImageDataSpec, spec.DataSpec),
        ("`[data]` of texts", spec.TextDataSpec, spec.DataSpec),
    ]
    for title, model, base in tables:
        told = set(base.model_fields) if base else set()
        meanings = attribute_docstrings(model)
        rows = [
            (f"`{name}`", _type(field.annotation, field.metadata), _toml(field), meanings[name])
            for name, field in model.model_fields.items()
            if name not in told
        ]
        yield from ["", f"## {title}", ""]
        yield from _table(("key", "value", "default", "meaning"), rows)


def attribute_docstrings(model: type[Any]) -> dict[str, str]:
    """The string under each attribute of a class, as its source has it, on one line."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(field.target, ast.Name)
            assert isinstance(text.value, ast.Constant)
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found


_NAMES = {str: "text", int: "integer", float: "number", bool: "`true` or `false`"}
_SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def _type(kind: Any, metadata: Iterable[Any] = ()) -> str:
    """What may be written for a field: its type with its bounds, or its values."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        kind, *more = arguments
        inner = [item for part in more for item in getattr(part, "metadata", [part])]
        return _type(kind, [*inner, *metadata])
    if origin in (Union, types.UnionType):
        return " or ".join(
            dict.fromkeys(_type(part, metadata) for part in arguments if part is not type(None))
        )
    if origin is Literal:
        return ", ".join(f'`"{value}"`' for value in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict or hasattr(kind, "model_fields"):
        return "table"
    bounds = [
        f"{sign} {value:,}"
        for item in metadata
        for name, sign in _SIGNS.items()
        if (value := getattr(item, name, None)) is not None and value < 1e30
    ]
    return ", ".join([_NAMES.get(kind, kind.__name__), *bounds])


def _toml(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{list(value) if isinstance(value, tuple) else value}`"


# Python


def _python_api() -> Lines:
    yield from ["# Python API", ""]
    yield "The functions do what the commands do (`evaluate` is `eval`), and print nothing. All of"
    yield "this page, the errors too, is imported from `sortednet_cli`:"
    yield from ["", "```python", *_EXAMPLE.strip().splitlines(), "```"]
    objects = {name: getattr(sortednet_cli, name) for name in sorted(sortednet_cli.__all__)}
    for name, found in sorted(objects.items(), key=lambda pair: inspect.isclass(pair[1])):
        yield from ["", f"## {name}", ""]
        if not inspect.isclass(found):
            yield from ["```python", _signature(name, found), "```", ""]
            yield from _docstring(found)
            continue
        if not issubclass(found, Exception) and dataclasses.is_dataclass(found):
            yield from _fields(name, found)
        yield from _docstring(found)
        for member, value in _members(found):
            yield from ["", f"### {name}.{member}", ""]
            if not isinstance(value, property):
                yield from ["```python", _signature(member, value), "```", ""]
            yield from _docstring(value)


_EXAMPLE = """
from sortednet_cli import RequestError, Updated, extract, frontier, load_artifact, load_run, train


def show(event):
    if isinstance(event, Updated):
        print(event.update, event.loss)


run = train("digits-resnet", {"train.epochs": 20}, on_event=show)  # the run's folder
try:
    best = frontier(run, limits={"params": 50_000}).chosen
except RequestError as error:  # nothing fits, for instance
    raise SystemExit(f"error: {error}")
print(best.submodel, best.params, best.metrics["validation"]["accuracy"])

folder = extract(run, best.submodel.axes)
model = load_artifact(folder).module()  # a standalone nn.Module
view = load_run(run).network().at(**best.submodel.axes)  # the same, sharing the run's weights
"""


def _fields(name: str, kind: type[Any]) -> Lines:
    """What a data class is made of, as the call that would make one."""
    fields = [f"    {f.name}: {_annotation(f.type)}" for f in dataclasses.fields(kind) if f.init]
    if fields and not name.startswith("Loaded"):
        yield from ["```python", f"{name}(", *(f"{line}," for line in fields), ")", "```", ""]


def _annotation(kind: Any) -> str:
    return re.sub(r"\b(?:\w+\.)+(?=[A-Z])", "", kind if isinstance(kind, str) else kind.__name__)


def _members(kind: type[Any]) -> Iterator[tuple[str, Any]]:
    """The methods and properties that the module of a class defines for it, by name.

    What base classes of other modules define is not part of the Python API.
    """
    for name in sorted(dir(kind)):
        value = inspect.getattr_static(kind, name)
        function = value.fget if isinstance(value, property) else value
        if (
            inspect.isfunction(function)
            and function.__module__ == kind.__module__
            and not name.startswith("_")
        ):
            yield name, value


def _signature(name: str, function: Any) -> str:
    whole = inspect.signature(function)
    kept = [p for p in whole.parameters.values() if p.name not in ("self", "cls")]
    text = f"{name}{whole.replace(parameters=kept)}"
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text).replace("'", '"')  # annotations are text
    text = re.sub(r"\b(?:\w+\.)+(?=[A-Z])", "", text)
    return text if len(text) <= _WIDTH else _on_lines(name, text)


def _on_lines(name: str, signature: str) -> str:
    """A signature with each of its parameters on a line."""
    inside, _, returned = signature.removeprefix(f"{name}(").rpartition(")")
    parameters = re.split(r", (?=\*|\w+: )", inside)
    return "\n".join([f"{name}(", *(f"    {one}," for one in parameters), f"){returned}"])


def _docstring(found: Any) -> Lines:
    """A docstring as Markdown: sections such as `Raises:` become lists."""
    for line in (inspect.getdoc(found) or "").splitlines():
        if re.fullmatch(r"(Args|Raises|Returns|Yields|Attributes):", line):
            yield from [f"**{line}**", ""]
        elif item := re.fullmatch(r"    (\w+): (.+)", line):
            yield f"- `{item[1]}`: {item[2]}"
        elif line.startswith(" " * 8):  # the rest of an item
            yield "  " + line.strip()
        else:
            yield line.removeprefix("    ")


# Presets


def _presets() -> Lines:
    yield from ["# Presets", ""]
    yield "`sortednet presets` lists them, and `sortednet presets show NAME` prints one. The first"
    yield "lines of each say where its numbers come from."
    yield ""
    rows = []
    for name in presets.names():
        table = tomllib.loads(presets.text(name))
        about = presets.text(name).splitlines()[0].lstrip("# ")
        axes = ", ".join(f"{len(values)} {axis}s" for axis, values in table["space"].items())
        size = f"{prod(map(len, table['space'].values()))} ({axes})"
        family, source = table["model"]["family"], table["data"]["source"]
        rule = table["train"]["rule"]
        rows.append((f"`{name}`", about, f"`{family}`", f"`{source}`", size, f"`{rule}`"))
    header = ("preset", "what it trains", "family", "source", "sub-models", "rule")
    yield from _table(header, rows)


if __name__ == "__main__":
    main()
