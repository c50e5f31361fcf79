"""What lm-eval and its packages print, warn of and draw, kept out of a command's output."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from sortednet_cli.logs import logger

_ALONE = "DISABLE_MULTIPROC"


@contextmanager
def apart() -> Iterator[None]:
    """Keep what lm-eval and its packages print, warn of and draw out of a command's output."""
    from lm_eval import evaluator
    from tqdm import tqdm

    begin = tqdm.__init__

    def without_bar(self: object, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **{**named, "disable": True})

    with (
        warnings.catch_warnings(),
        redirect_stdout(io.StringIO()),
        _replaced(tqdm, "__init__", without_bar),
        _replaced(evaluator, "get_git_commit_hash", lambda: None),  # git complains elsewhere
        _one_process(),
        quiet(logging.WARNING),
    ):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _one_process() -> Iterator[None]:
    """Let standard errors be computed here: lm-eval would copy this process, weights and all."""
    before = os.environ.get(_ALONE)
    os.environ[_ALONE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ALONE]
        else:
            os.environ[_ALONE] = before


class _Relay(logging.Handler):
    """Hands lm-eval's messages to this package's log."""

    def emit(self, record: logging.LogRecord) -> None:
        logger.log(record.levelno, "lm-eval: %s", record.getMessage().strip())


@contextmanager
def quiet(level: int) -> Iterator[None]:
    """Log lm-eval's messages of that level or higher alone, as this package's."""
    theirs = logging.getLogger("lm_eval")
    before = theirs.level, theirs.handlers[:], theirs.propagate
    theirs.handlers[:] = [_Relay()]
    theirs.setLevel(level)
    theirs.propagate = False
    try:
        yield
    finally:
        theirs.setLevel(before[0])
        theirs.handlers[:] = before[1]
        theirs.propagate = before[2]
