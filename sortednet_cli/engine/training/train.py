"""The command's request, carried out by all processes of a job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import torch

from sortednet_cli import launch
from sortednet_cli.distributed.processes import Processes, join_job
from sortednet_cli.engine.requests import TrainRequest
from sortednet_cli.engine.training.events import Event, Started
from sortednet_cli.engine.training.session import Session
from sortednet_cli.engine.training.start import create_session, open_together, reopen_session
from sortednet_cli.errors import RequestError
from sortednet_cli.machine.device import choose_device
from sortednet_cli.storage.run import RunFolder
from sortednet_cli.storage.runs import default_run_path, newest_run, unfinished_run


def train(request: TrainRequest, stopped: Callable[[], bool]) -> Iterator[Event]:
    """Join the job, open the run and train it; the first process holds the run's lock."""
    device = choose_device(request.device)
    with join_job(device) as processes:
        session = _open(request, device, processes)
        yield Started(session.run.path)
        with session.run.lock() if processes.leads else nullcontext():
            yield from session.events(stopped)


def _open(request: TrainRequest, device: torch.device, processes: Processes) -> Session:
    spec, allowed = request.spec, request.allow_factories

    def start() -> Session:
        if spec is None:
            return reopen_session(unfinished_run(request.resume), device, allowed, processes)
        if launch.restarts() and (begun := _begun(request)):
            return reopen_session(begun, device, allowed, processes)
        path = request.out or default_run_path(spec.name)
        return create_session(path, spec, device, processes, allowed, or_next=request.out is None)

    def again(path: Path) -> Session:
        own = spec.model.factories if spec else ()
        return reopen_session(RunFolder.open(path), device, (*allowed, *own), processes)

    return open_together(processes, start, again)


def _begun(request: TrainRequest) -> RunFolder | None:
    """The run that this request began before its job was started again."""
    assert request.spec is not None
    if request.out is not None:
        return RunFolder.open(request.out) if request.out.exists() else None
    try:
        newest = newest_run(finished=False)
    except RequestError:
        return None
    return newest if newest.spec().name == request.spec.name else None
