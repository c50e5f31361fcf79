"""`sortednet push`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sortednet_cli import engine
from sortednet_cli.cli import options
from sortednet_cli.cli.render import print_json
from sortednet_cli.engine import PushRequest
from sortednet_cli.errors import plain
from sortednet_cli.logs import logger

if TYPE_CHECKING:
    from sortednet_cli.engine import Push

_PathArgument = Annotated[Path, typer.Argument(metavar="ARTIFACT", help="Artifact folder.")]
_NameArgument = Annotated[
    str, typer.Argument(metavar="USER/NAME", help="Repository; it is created if it is new.")
]
_PrivateOption = Annotated[
    bool, typer.Option("--private", help="Create the repository as a private one.")
]
_RevisionOption = Annotated[
    str | None,
    typer.Option(
        "--revision",
        metavar="BRANCH",
        help="Branch to push to; it is created if it is new. Default: main.",
        show_default=False,
    ),
]
_MessageOption = Annotated[
    str | None,
    typer.Option(
        "--message",
        metavar="TEXT",
        help="Message of the commit. Default: the names of run and sub-model.",
        show_default=False,
    ),
]
_DryOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Print what would be sent; send nothing."),
]


def push(
    path: _PathArgument,
    repository: _NameArgument,
    private: _PrivateOption = False,
    revision: _RevisionOption = None,
    message: _MessageOption = None,
    dry_run: _DryOption = False,
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    verbose: options.VerboseOption = False,
) -> None:
    """Send an artifact to the Hugging Face Hub, in one commit; print the address of its page.

    Every file is compared with its checksum first; only the model card (README.md) may have been
    edited. Log in with `hf auth login`, or set HF_TOKEN.

    Example: sortednet push artifacts/digits-resnet-w0.5-d8 user/digits --dry-run
    """
    options.set_verbosity(quiet, verbose)
    bars = not quiet and sys.stderr.isatty()
    request = PushRequest(path, repository, private, revision, message, dry_run, bars)
    result = engine.push(request)
    if as_json:
        print_json(_document(result))
    elif dry_run:
        _print_plan(result)
    else:
        if result.removed:
            logger.info("removed files of the earlier artifact: %s", ", ".join(result.removed))
        typer.echo(result.url)


def _document(result: Push) -> dict[str, object]:
    return {
        "repository": result.repository,
        "url": result.url,
        "commit": result.commit,
        "message": result.message,
        "files": [{"name": name, "bytes": size} for name, size in result.files.items()],
        "removed": list(result.removed),
        "metadata": result.metadata,
    }


def _print_plan(result: Push) -> None:
    from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]

    typer.echo(f"to {result.repository}: {plain(result.message)}")
    for name, size in result.files.items():
        typer.echo(f"{size:>15,}  {plain(name)}")
    typer.echo(f"{sum(result.files.values()):>15,}  bytes in {len(result.files)} files")
    if result.metadata:
        typer.echo(plain(yaml_dump(dict(result.metadata), sort_keys=False).rstrip()))
