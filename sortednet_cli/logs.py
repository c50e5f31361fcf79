"""Logging to standard error, since standard output is for data."""

from __future__ import annotations

import logging
import sys

from sortednet_cli import launch
from sortednet_cli.errors import plain

logger = logging.getLogger("sortednet")

_NOISY = ("torch.utils._pytree",)
"""Loggers of others that warn of what no user can change, such as of torchao's enumerations."""


class _PlainFormatter(logging.Formatter):
    """Escapes control characters, which come from names and contents of files."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


def configure(verbosity: int) -> None:
    """Log to standard error: -1 warnings only, 0 information too, 1 debug messages too.

    In a job only the first process logs.
    """
    level = {-1: logging.WARNING, 0: logging.INFO}.get(verbosity, logging.DEBUG)
    if launch.rank():
        level = logging.CRITICAL
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PlainFormatter("%(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
