"""`sortednet presets`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from sortednet_cli.cli import options
from sortednet_cli.cli.render import print_json
from sortednet_cli.errors import RequestError
from sortednet_cli.spec import presets as preset_texts


def presets(
    action: Annotated[
        Literal["list", "show"], typer.Argument(help="list, or show with a NAME.")
    ] = "list",
    name: Annotated[
        str | None, typer.Argument(help="With show: the preset to print.", show_default=False)
    ] = None,
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    verbose: options.VerboseOption = False,
) -> None:
    """List the presets, or print one as TOML to start your own spec from.

    Example: sortednet presets show digits-resnet > mine.toml
    """
    options.set_verbosity(quiet, verbose)
    if action == "show":
        if name is None:
            raise RequestError("presets show needs a NAME: sortednet presets lists them")
        if as_json:
            from sortednet_cli.spec import load_preset

            print_json(load_preset(name).model_dump(mode="json"))
        else:
            typer.echo(preset_texts.text(name), nl=False)
        return
    if name is not None:
        raise RequestError(f"presets list takes no NAME; did you mean: presets show {name}?")
    if as_json:
        about = [{"name": n, "about": preset_texts.about(n)} for n in preset_texts.names()]
        print_json({"presets": about})
        return
    width = max(map(len, preset_texts.names()))
    for each in preset_texts.names():
        typer.echo(f"{each:<{width}}  {preset_texts.about(each)}".rstrip())
