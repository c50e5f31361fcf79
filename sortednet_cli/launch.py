"""A process's place in its job, read from the environment that `torchrun` sets. No torch."""

from __future__ import annotations

import os

_SIZE, _RANK = "WORLD_SIZE", "RANK"
_LOCAL_SIZE, _LOCAL_RANK = "LOCAL_WORLD_SIZE", "LOCAL_RANK"
_NEEDED = (_RANK, "MASTER_ADDR", "MASTER_PORT")


def rank() -> int:
    """Return this process's rank in its job; 0 without a job."""
    return _number(_RANK, 0) if world_size() > 1 else 0


def world_size() -> int:
    """Return the number of processes in the job; 1 without a job."""
    return _number(_SIZE, 1)


def local_rank() -> int:
    """Return this process's rank on its machine, which is the index of its accelerator."""
    return _number(_LOCAL_RANK, 0)


def local_world_size() -> int:
    """Return the number of processes on this machine; 1 without a job."""
    return _number(_LOCAL_SIZE, 1)


def restarts() -> int:
    """Return how often the job was restarted after one of its processes had died."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0)


def find_problem() -> str | None:
    """Describe what is wrong with the job's environment variables; None if they are consistent.

    They can be incomplete without torchrun, because clusters and containers set some of them too.
    """
    for name in (_SIZE, _RANK, _LOCAL_SIZE, _LOCAL_RANK):
        value = os.environ.get(name, "")
        if value and not value.isdecimal():
            return f"{name}={value} in the environment is not a number: unset it"
    if (size := world_size()) == 1:
        return None
    advice = f"start the job with torchrun, or unset {_SIZE} for a single process"
    if missing := ", ".join(name for name in _NEEDED if not os.environ.get(name)):
        return (
            f"{_SIZE}={size} in the environment asks for {size} processes, but"
            f" {missing} is not set: {advice}"
        )
    if rank() >= size:
        return f"{_RANK}={rank()} is not below {_SIZE}={size}: {advice}"
    return None


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else default
