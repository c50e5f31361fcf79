"""The scheduler: a bounded queue, and the one thread that works on all jobs. No torch."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Protocol

from sortednet_cli.engine.serving.jobs import Event, Failed, Job
from sortednet_cli.engine.serving.metrics import Metrics
from sortednet_cli.errors import RequestError, SortednetError
from sortednet_cli.logs import logger

_CLOSING = Failed("closing", "the server is stopping")


class QueueFull(Exception):
    """As many jobs wait as may."""


class Closing(Exception):
    """The server is stopping."""


class Worker(Protocol):
    """Works on jobs; only the scheduler's thread calls it."""

    def begin(self, job: Job) -> None:
        """Take a job on; RequestError if it cannot be done."""
        ...

    def step(self) -> None:
        """Do a little for every job that was begun, and forget those that are over."""
        ...

    def rest(self) -> None:
        """Give memory back: there is nothing to do."""
        ...


class Scheduler:
    """Hands jobs to a worker in the order of their arrival, a bounded number at once.

    Args:
        max_active: most jobs that were begun and have not ended.
        max_queue: most jobs that wait beyond these.
        metrics: counts jobs that end.
    """

    def __init__(self, worker: Worker, max_active: int, max_queue: int, metrics: Metrics) -> None:
        self._worker, self._metrics = worker, metrics
        self._max_active, self._max_queue = max_active, max_queue
        self._waiting: deque[Job] = deque()
        self._active: set[Job] = set()
        self._changed = threading.Condition()
        self._accepts, self._runs = True, True
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    @property
    def num_waiting(self) -> int:
        """Number of jobs that wait."""
        return len(self._waiting)

    @property
    def num_active(self) -> int:
        """Number of jobs that were begun and have not ended."""
        return len(self._active)

    @property
    def accepts(self) -> bool:
        """Whether new jobs are accepted."""
        return self._accepts

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            QueueFull: too many jobs wait.
            Closing: the server is stopping.
        """
        with self._changed:
            if not self._accepts:
                raise Closing
            free = self._max_active - len(self._active)
            if len(self._waiting) >= self._max_queue + free:
                raise QueueFull
            job.attach(self._ended)
            self._waiting.append(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Stop working on a job that nobody waits for any more; one that ended stays as it is."""
        job.cancelled = True
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
            elif job in self._active:
                return  # the worker lets it go
        job.end()

    def drain(self) -> int:
        """Accept no more jobs and refuse those that wait; return how many these were."""
        with self._changed:
            self._accepts = False
            refused = list(self._waiting)
            self._waiting.clear()
        for job in refused:
            job.end(_CLOSING)
        return len(refused)

    def close(self) -> int:
        """End every job, and the thread after its step; return how many jobs were cut off."""
        self.drain()
        with self._changed:
            cut, self._runs = list(self._active), False
            self._changed.notify()
        for job in cut:
            job.end(_CLOSING)
        return len(cut)

    def join(self, seconds: float) -> bool:
        """Wait for the thread to end, for some time at most; return whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _ended(self, job: Job, event: Event | None) -> None:
        with self._changed:
            self._active.discard(job)
        self._metrics.count_job(job, event, time.monotonic() - job.created)

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting and not self._active:
                    self._worker.rest()
                self._changed.wait_for(lambda: self._waiting or self._active or not self._runs)
                if not self._runs:
                    return
                count = min(len(self._waiting), self._max_active - len(self._active))
                begun = [self._waiting.popleft() for _ in range(count)]
                self._active.update(begun)
            for job in begun:
                self._begin(job)
            try:
                self._worker.step()
            except Exception as error:  # whatever it is, the others are to be answered
                self._fail(error)

    def _begin(self, job: Job) -> None:
        if job.is_over:
            job.end()
            return
        try:
            self._worker.begin(job)
        except RequestError as error:
            job.end(Failed("request", str(error)))
        except Exception as error:
            logger.exception("a request failed")
            job.end(Failed("work", _told(error)))

    def _fail(self, error: Exception) -> None:
        """End every active job after an error that no job of its own caused."""
        logger.error("requests failed", exc_info=error)
        for job in list(self._active):
            job.end(Failed("work", _told(error)))


def _told(error: Exception) -> str:
    """What a client hears of an error: what lies within the server is for its log alone."""
    if isinstance(error, SortednetError):
        return str(error)
    return "the server failed on this request; its log says why"
