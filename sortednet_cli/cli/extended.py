"""Commands with options that depend on installed extensions, created when a command is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import Parameter, Signature
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from sortednet_cli.errors import listed
from sortednet_cli.extensions import warn_once

_OPTIONS, _VALUES = "sortednet.options", "sortednet.values"
"""Keys in a context's `meta`: the created options, and their values."""


def extended(before: str, make: Callable[[], Iterable[Parameter]]) -> type[TyperCommand]:
    """Create a command class that has more options than its function has parameters.

    The function takes the context; `value_of` reads the values of these options from it. An option
    whose flag another one has is left out, with a warning.

    Args:
        before: the parameter before which `--help` lists the options.
        make: creates the options by `option`. It is called when the command is first used.
    """

    class Extended(TyperCommand):
        def get_params(self, ctx: Any) -> list[Any]:
            if _OPTIONS not in ctx.meta:
                ctx.meta[_OPTIONS] = _click_parameters(make())
            own = super().get_params(ctx)
            position = [parameter.name for parameter in own].index(before)
            return [*own[:position], *_free(ctx.meta[_OPTIONS], own), *own[position:]]

    return Extended


def option(
    name: str, flag: str, default: str | None = None, *, metavar: str, help: str
) -> Parameter:
    """Describe an option whose value is text."""
    info = typer.Option(
        flag,
        metavar=metavar,
        help=help,
        show_default=default is not None,
        expose_value=False,
        callback=_store,
    )
    annotation = Annotated[str | None, info]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def value_of(context: typer.Context, name: str) -> Any:
    """Return the value of an option, or its default; None for one that was left out."""
    return context.meta[_VALUES].get(name)


def _store(context: typer.Context, parameter: typer.CallbackParam, value: str | None) -> None:
    context.meta.setdefault(_VALUES, {})[parameter.name] = value


def _free(options: Iterable[Any], own: Iterable[Any]) -> list[Any]:
    """Return the options whose flags no other option of the command has."""
    taken, free = {flag for parameter in own for flag in parameter.opts}, []
    for made in options:
        if taken.isdisjoint(made.opts):
            free.append(made)
            taken.update(made.opts)
        else:
            warn_once(
                f"{listed(made.opts)} is another option here; that of {made.name} is left out"
            )
    return free


def _click_parameters(options: Iterable[Parameter]) -> list[Any]:
    """Let typer convert the options as it converts a function's parameters."""

    def function(**values: object) -> None: ...

    vars(function)["__signature__"] = Signature(list(options))
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return list(typer.main.get_command(app).params)
