"""What `torchrun` tells each process of a job, read from its environment. No torch."""

from __future__ import annotations

import os


def rank() -> int:
    """This process's number among those of its job; 0 without a job."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes the job has; 1 without a job."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """This process's number on its machine: the accelerator that it takes."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world_size() -> int:
    """How many processes of the job this machine has; 1 without a job."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def restarts() -> int:
    """How often the job was started again after a process of it had died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
