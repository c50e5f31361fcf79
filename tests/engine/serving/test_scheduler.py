"""What clients hear when work fails."""

from __future__ import annotations

import threading
from queue import SimpleQueue

import pytest

from sortednet_cli.engine.serving.jobs import Event, Failed, Job, Size
from sortednet_cli.engine.serving.metrics import Metrics
from sortednet_cli.engine.serving.scheduler import Scheduler
from sortednet_cli.errors import RequestError, WorkError

UNEXPECTED = KeyError("/secret/place")
OWN = "the server failed on this request; its log says why"


class _Failing:
    """Fails to begin a job, or in the pass after it."""

    def __init__(self, error: Exception, begins: bool) -> None:
        self._error, self._begins = error, begins

    def begin(self, job: Job) -> None:
        if not self._begins:
            raise self._error

    def step(self) -> None:
        if self._begins:
            raise self._error

    def rest(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "begins", "expected"),
    [
        (RequestError("too long"), False, Failed("request", "too long")),
        (WorkError("memory ran out"), False, Failed("work", "memory ran out")),
        (WorkError("memory ran out"), True, Failed("work", "memory ran out")),
        (UNEXPECTED, False, Failed("work", OWN)),
        (UNEXPECTED, True, Failed("work", OWN)),
    ],
)
def test_clients_hear_of_an_error_what_is_meant_for_them(
    error: Exception, begins: bool, expected: Failed
) -> None:
    scheduler = Scheduler(_Failing(error, begins), 1, 1, Metrics())
    scheduler.start()
    events: SimpleQueue[Event] = SimpleQueue()
    scheduler.submit(Job(Size(None), None, events.put))
    assert events.get(timeout=60) == expected
    scheduler.close()
    assert scheduler.join(60)


def test_a_pass_that_goes_on_is_told() -> None:
    begun, ends = threading.Event(), threading.Event()

    class Slow(_Failing):
        def begin(self, job: Job) -> None:
            begun.set()
            ends.wait(60)

    scheduler = Scheduler(Slow(UNEXPECTED, True), 1, 1, Metrics())
    scheduler.start()
    scheduler.submit(Job(Size(None), None, lambda event: None))
    assert begun.wait(60)
    assert scheduler.close() == 1
    assert not scheduler.join(0.01)
    ends.set()
    assert scheduler.join(60)
