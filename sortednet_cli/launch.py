"""What `torchrun` tells each process of a job, read from its environment. No torch."""

from __future__ import annotations

import os

_SIZE, _RANK = "WORLD_SIZE", "RANK"
_LOCAL_SIZE, _LOCAL_RANK = "LOCAL_WORLD_SIZE", "LOCAL_RANK"
_NEEDED = (_RANK, "MASTER_ADDR", "MASTER_PORT")


def rank() -> int:
    """This process's number among those of its job; 0 without a job."""
    return _number(_RANK, 0) if world_size() > 1 else 0


def world_size() -> int:
    """How many processes the job has; 1 without a job."""
    return _number(_SIZE, 1)


def local_rank() -> int:
    """This process's number on its machine: the accelerator that it takes."""
    return _number(_LOCAL_RANK, 0)


def local_world_size() -> int:
    """How many processes of the job this machine has; 1 without a job."""
    return _number(_LOCAL_SIZE, 1)


def restarts() -> int:
    """How often the job was started again after a process of it had died."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0)


def trouble() -> str | None:
    """What makes half a job: clusters and containers set some of these variables too."""
    for name in (_SIZE, _RANK, _LOCAL_SIZE, _LOCAL_RANK):
        value = os.environ.get(name, "")
        if value and not value.isdecimal():
            return f"{name}={value} in the environment is no number: unset it"
    if (size := world_size()) == 1:
        return None
    advice = f"start the job with torchrun, or unset {_SIZE} for a single process"
    if missing := ", ".join(name for name in _NEEDED if not os.environ.get(name)):
        return (
            f"{_SIZE}={size} in the environment asks for {size} processes, but"
            f" {missing} is not set: {advice}"
        )
    if rank() >= size:
        return f"{_RANK}={rank()} is no process of {_SIZE}={size}: {advice}"
    return None


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else default
