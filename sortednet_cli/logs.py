"""Logging to standard error: standard output is for data alone."""

from __future__ import annotations

import logging
import sys

from sortednet_cli import launch
from sortednet_cli.errors import plain

logger = logging.getLogger("sortednet")


class _PlainFormatter(logging.Formatter):
    """Keeps a file's name or content from giving the terminal orders."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


def configure(verbosity: int) -> None:
    """Send messages to standard error: -1 warnings only, 0 information, 1 debugging too.

    Of the processes of a job the first alone sends any.
    """
    level = {-1: logging.WARNING, 0: logging.INFO}.get(verbosity, logging.DEBUG)
    if launch.rank():
        level = logging.CRITICAL
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PlainFormatter("%(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
