"""The clock by which two ways of computing the same are compared."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

Clock = Callable[[], float]
"""Returns seconds from any beginning."""


def work_clock(device: torch.device) -> Clock:
    """Return a clock, in seconds, for work that a device does for the calling thread.

    On a CPU with one thread it is that thread's processor time, so that a busy machine does not
    mislead the comparison: waiting for a core can triple the wall time of a pass. With more threads
    or on another device it is the wall clock.
    """
    if device.type == "cpu" and torch.get_num_threads() == 1:
        return time.thread_time
    return time.perf_counter
