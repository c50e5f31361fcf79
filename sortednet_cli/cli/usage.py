"""What a wrong command line is told: one message, as for every other wrong request."""

from __future__ import annotations

import re
from typing import Any

from sortednet_cli.errors import suggestion
from sortednet_cli.wrong_values import wrong_values


def told(error: Any) -> str:
    """Put what the parser of options raised into one message; the help if nothing was asked for.

    Args:
        error: one of click's usage errors, whichever copy of click typer has.
    """
    if type(error).__name__ == "NoArgsIsHelpError":
        return f"{error.format_message()}\n"
    text = _of_value(error) or _of_name(error)
    text = text or " ".join(error.format_message().split()).rstrip(".")  # it lists words in lines
    where = f"; see: {error.ctx.command_path} --help" if error.ctx else ""
    return f"error: {text[:1].lower()}{text[1:]}{where}\n"


def _of_value(error: Any) -> str:
    """What is wrong with an option's value; empty if older typer or click itself says it."""
    errors = getattr(error.__cause__, "errors", None)  # pydantic's, which newer typer reads with
    if not callable(errors) or getattr(error, "param", None) is None:
        return ""
    wrong, given = next(wrong_values(errors())), errors()[0]["input"]
    said = wrong.message.rstrip(".")
    if wrong.kind == "value_error":  # a choice, whose legal words stand in its own message
        said += suggestion(given, [w for w in re.findall("'([^']*)'", said) if w != given])
    return f"{error.param.opts[0]}: {said}"


def _of_name(error: Any) -> str:
    """What is wrong with the name of an option or a command; empty if nothing is."""
    if (
        found := re.match(r"No such (option:|command) '?([^'\s]+)", error.format_message())
    ) is None:
        return ""
    kind, name = found.groups()
    legal: Any = getattr(error, "possibilities", None) or getattr(error.ctx.command, "commands", ())
    return f"no such {kind.rstrip(':')} {name!r}{suggestion(name, legal)}"
