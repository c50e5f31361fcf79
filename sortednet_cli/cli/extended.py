"""Commands with options for what packages add: made when a command is used, not before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import Parameter, Signature
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

_OPTIONS, _VALUES = "sortednet.options", "sortednet.values"
"""Keys of what a context keeps: the options that were made, and what they were given."""


def extended(before: str, make: Callable[[], Iterable[Parameter]]) -> type[TyperCommand]:
    """Make the class of a command with more options than its function has parameters.

    The function takes the context, and `value_of` reads the options from it.

    Args:
        before: the parameter that the help says them before.
        make: makes the options, each by `option`, once a command line has named the command.
    """

    class Extended(TyperCommand):
        def get_params(self, ctx: Any) -> list[Any]:
            if _OPTIONS not in ctx.meta:
                ctx.meta[_OPTIONS] = _converted(make())
            own = super().get_params(ctx)
            at = [parameter.name for parameter in own].index(before)
            return [*own[:at], *ctx.meta[_OPTIONS], *own[at:]]

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
        callback=_keep,
    )
    annotation = Annotated[str | None, info]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def value_of(context: typer.Context, name: str) -> Any:
    """What an option was given, or its default."""
    return context.meta[_VALUES][name]


def _keep(context: typer.Context, parameter: typer.CallbackParam, value: str | None) -> None:
    context.meta.setdefault(_VALUES, {})[parameter.name] = value


def _converted(options: Iterable[Parameter]) -> list[Any]:
    """Let typer make of the options what it makes of a function's parameters."""

    def function(**values: object) -> None: ...

    vars(function)["__signature__"] = Signature(list(options))
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return list(typer.main.get_command(app).params)
