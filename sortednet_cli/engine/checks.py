"""Checks that commands make before they import torch, which takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sortednet_cli import launch
from sortednet_cli.engine.requests import DraftRequest, HarnessRequest, SourceRequest
from sortednet_cli.errors import RequestError, install_line, listed, suggestion
from sortednet_cli.logs import logger
from sortednet_cli.spec import RunSpec

if TYPE_CHECKING:
    from sortednet_cli.engine.sources.source import Source
    from sortednet_cli.storage.sources import StoredSource

SPLITS = ("train", "validation", "test")
_SERVING = ("fastapi", "uvicorn", "python_multipart")
_PAGE = ".html"
_PLOT_SUFFIXES = (".svg", ".png", _PAGE)


def open_source(
    request: SourceRequest,
    axes: Mapping[str, int | float] | None = None,
    check: Callable[[StoredSource], None] = lambda stored: None,
) -> Source:
    """Open the source of a request, after all checks that need no torch.

    Args:
        axes: axis values of a sub-model that the source must have.
        check: further checks of the command.

    Raises:
        RequestError: there is no such source or sub-model, a check failed, or a factory is not
            allowed.
    """
    return open_allowed(read_stored(request, axes, check), request)


def read_stored(
    request: SourceRequest,
    axes: Mapping[str, int | float] | None = None,
    check: Callable[[StoredSource], None] = lambda stored: None,
) -> StoredSource:
    """Read what is recorded of the source that a request names, and check it. No torch."""
    from sortednet_cli.storage.sources import read_source

    stored = read_source(request.path or newest_finished())
    stored.check_axes(axes or {})
    check(stored)
    return stored


def open_allowed(stored: StoredSource, request: SourceRequest) -> Source:
    """Open what was read; RequestError before torch is imported if its code is not allowed."""
    stored.check_allowed(request.allow_factories)

    from sortednet_cli.engine.sources.opening import open_stored

    return open_stored(stored, request.allow_factories)


def check_serving() -> None:
    """RequestError if a package that the server needs is missing."""
    if not all(map(find_spec, _SERVING)):
        raise RequestError(f"serve needs: {install_line('serve')}")


def check_harness(request: HarnessRequest) -> None:
    """RequestError if tasks of lm-eval cannot be run here, or their files are not there."""
    if find_spec("lm_eval") is None:
        raise RequestError(f"--harness needs: {install_line('harness')}")
    if not request.tasks:
        raise RequestError("--harness: name a task of lm-eval, or several with commas")
    if request.limit is not None and request.limit < 1:
        raise RequestError(f"--harness-limit {request.limit}: needs a number from 1 up")
    if request.path is not None and not request.path.is_dir():
        raise RequestError(f"--harness-path {request.path}: there is no such folder")
    for name in request.tasks:
        if name.endswith((".yaml", ".yml")) and not Path(name).is_file():
            raise RequestError(f"--harness {name}: there is no such file")
    if launch.world_size() > 1:
        raise RequestError("--harness runs in one process: start it without torchrun")


def check_plot(plot: Path | None) -> None:
    """RequestError if a plot that was asked for cannot be written to this path."""
    if plot is not None and plot.suffix not in _PLOT_SUFFIXES:
        raise RequestError(f"--plot {plot}: the name must end in .svg, .png or .html")
    if is_page(plot):
        from sortednet_cli.engine.reporting.page import check_library

        check_library(f"--plot {plot}")
    check_file("--plot", plot)


def is_page(plot: Path | None) -> bool:
    """Whether a plot is the page that `report` writes."""
    return plot is not None and plot.suffix == _PAGE


def check_report(spec: RunSpec) -> None:
    """RequestError if a training cannot write the report that its spec asks for."""
    if spec.train.report:
        from sortednet_cli.engine.reporting.page import check_library

        check_library("train.report = true")


def check_file(option: str, path: Path | None) -> None:
    """RequestError if an option's file, if one was given, cannot be written to this path."""
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise RequestError(f"{option} {path}: there is no folder {path.absolute().parent}")
    if path.is_dir():
        raise RequestError(f"{option} {path}: this is a folder; name a file")


def check_min_score(stored: StoredSource, bound: float | None) -> None:
    """RequestError if scores of a source's task cannot have this value."""
    if bound is not None and stored.task is not None:
        stored.measure.check_bound(bound)


def check_split(split: str) -> None:
    """RequestError if data have no part of that name."""
    if split not in SPLITS:
        hint = suggestion(split, SPLITS)
        raise RequestError(f"--split {split!r}{hint}: the parts are {listed(SPLITS)}")


def newest_finished() -> Path:
    """Return the default source, which is the newest finished run, and log its path."""
    from sortednet_cli.storage.runs import newest_run

    path = newest_run(finished=True).path
    logger.info("using %s", path)
    return path


def unfinished_spec(path: Path | None) -> RunSpec:
    """Read the spec of the run to resume, by default the newest unfinished run."""
    from sortednet_cli.storage.runs import unfinished_run

    return unfinished_run(path).spec()


def check_draft(request: DraftRequest) -> None:
    """RequestError if a spec cannot be written, or there are no data."""
    out, data = request.out, request.data
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise RequestError(f"--out {out}: name a file in a folder that exists")
    if out.exists() and not request.force:
        raise RequestError(f"{out} exists; choose another --out, or pass --force to replace it")
    if data is not None and not data.exists():
        raise RequestError(f"--data {data}: there is no such file or folder")


def check_place(spec: RunSpec, out: Path | None) -> None:
    """RequestError if the folder of a new run cannot be created."""
    from sortednet_cli.storage.files import require_creatable
    from sortednet_cli.storage.runs import default_run_path

    if out is None:
        default_run_path(spec.name)
    elif not launch.restarts():
        require_creatable(out)
