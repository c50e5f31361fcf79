"""Logging to standard error: standard output is for data alone."""

from __future__ import annotations

import logging
import sys

from sortednet_cli import launch

logger = logging.getLogger("sortednet")


def configure(verbosity: int) -> None:
    """Send messages to standard error: -1 warnings only, 0 information, 1 debugging too.

    Of the processes of a job the first alone sends any.
    """
    level = {-1: logging.WARNING, 0: logging.INFO}.get(verbosity, logging.DEBUG)
    if launch.rank():
        level = logging.CRITICAL
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
