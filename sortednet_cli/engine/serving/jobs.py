"""A job: one request on its way through the scheduler, and what happens to it. No torch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from sortednet_cli.space import SubModel

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Size:
    """The size that a request asks for: a sub-model, or the best one that is fast enough.

    Attributes:
        submodel: the sub-model; None to choose it by `max_latency_ms`.
        max_latency_ms: most milliseconds per token, or per image.
    """

    submodel: SubModel | None
    max_latency_ms: float | None = None


@dataclass(frozen=True)
class Started:
    """Work began with a sub-model; `latency_ms` is its measured time, if that chose it."""

    submodel: SubModel
    latency_ms: float | None


@dataclass(frozen=True)
class Piece:
    """Text that is generated next."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The text is complete.

    Attributes:
        reason: `stop` for an end token or a stop text, `length` for enough tokens.
        tokens: number of generated tokens.
    """

    reason: FinishReason
    tokens: int


@dataclass(frozen=True)
class Classified:
    """Probabilities of all classes, in the order of the classes."""

    probabilities: list[float]


@dataclass(frozen=True)
class Failed:
    """The work ended without a result.

    Attributes:
        cause: `request` if the request was wrong, `closing` if the server stops, else `work`.
    """

    cause: Literal["request", "closing", "work"]
    message: str


Event = Started | Piece | Finished | Classified | Failed


class Job:
    """One request. The scheduler's thread works on it; events go to whoever waits for them.

    Args:
        size: the size that it asks for.
        work: what to do, as the worker takes it.
        emit: receives the events, in other threads than the caller's.

    Attributes:
        submodel: the sub-model that works on it; None before it begins.
        cancelled: whether nobody waits for it any more.
        created: when it was made, by `time.monotonic`.
    """

    def __init__(self, size: Size, work: Any, emit: Callable[[Event], None]) -> None:
        self.size, self.work = size, work
        self.submodel: SubModel | None = size.submodel
        self.cancelled = False
        self.created = time.monotonic()
        self._emit = emit
        self._lock = threading.Lock()
        self._ended = False
        self._on_end: Callable[[Job, Event | None], None] = lambda job, event: None

    def attach(self, on_end: Callable[[Job, Event | None], None]) -> None:
        """Set what is called once with the job and its last event, None if it was cancelled."""
        self._on_end = on_end

    def start(self, submodel: SubModel, latency_ms: float | None) -> None:
        """Say that work begins with a sub-model."""
        self.submodel = submodel
        self.send(Started(submodel, latency_ms))

    def send(self, event: Event) -> None:
        """Pass on an event, unless the job has ended."""
        if not self._ended and not self.cancelled:
            self._emit(event)

    def end(self, event: Event | None = None) -> None:
        """End with a last event, or without one after a cancellation; later calls do nothing."""
        with self._lock:
            if self._ended:
                return
            if event is not None:
                self.send(event)
            self._ended = True
        self._on_end(self, event)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do for it."""
        return self._ended or self.cancelled
