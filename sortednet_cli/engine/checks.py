"""What every command tells before torch is imported, which takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sortednet_cli import launch
from sortednet_cli.engine.requests import SourceRequest
from sortednet_cli.errors import RequestError
from sortednet_cli.logs import logger
from sortednet_cli.spec import RunSpec

if TYPE_CHECKING:
    from sortednet_cli.engine.sources.source import Source
    from sortednet_cli.storage.sources import StoredSource

_PICTURES = (".svg", ".png")


def open_source(
    request: SourceRequest,
    axes: Mapping[str, int | float] | None = None,
    check: Callable[[StoredSource], None] = lambda stored: None,
) -> Source:
    """Open what a request names.

    What can be told without torch is told before it is imported, which takes seconds.

    Args:
        axes: of a sub-model that will be asked for.
        check: what else a command asks of it.
    """
    from sortednet_cli.storage.sources import read_source

    stored = read_source(request.path or newest_finished())
    stored.check_axes(axes or {})
    check(stored)
    stored.check_allowed(request.allow_factories)

    from sortednet_cli.engine.sources.opening import open_stored

    return open_stored(stored, request.allow_factories)


def check_plot(plot: Path) -> None:
    """RequestError if no picture can be written there."""
    if plot.suffix not in _PICTURES:
        raise RequestError(f"--plot {plot}: write a name that ends in .svg or .png")
    if not plot.absolute().parent.is_dir():
        raise RequestError(f"--plot {plot}: there is no folder {plot.absolute().parent}")
    if plot.is_dir():
        raise RequestError(f"--plot {plot}: it is a folder")


def newest_finished() -> Path:
    """The run that is meant when none is named; the log says which one."""
    from sortednet_cli.storage.runs import newest_run

    path = newest_run(finished=True).path
    logger.info("using %s", path)
    return path


def unfinished_spec(path: Path | None) -> RunSpec:
    from sortednet_cli.storage.runs import unfinished_run

    return unfinished_run(path).spec()


def check_place(spec: RunSpec, out: Path | None) -> None:
    """RequestError if no new run can have its folder there."""
    from sortednet_cli.storage.files import require_creatable
    from sortednet_cli.storage.runs import default_run_path

    if out is None:
        default_run_path(spec.name)
    elif not launch.restarts():
        require_creatable(out)
