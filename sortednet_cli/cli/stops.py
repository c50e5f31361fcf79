"""Signals that stop a command: at once, or, in training, once a checkpoint is saved."""

from __future__ import annotations

import signal
from typing import Any, NoReturn, Self

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""A closed terminal sends SIGHUP. On Windows a closed console and Ctrl+Break send SIGBREAK."""

SIGNALS = tuple(signal.Signals[name] for name in _NAMES if hasattr(signal, name))
"""The stop signals that this system has."""

_seen: list[int] = []

_leaves_threads: list[bool] = []


class Stopped(BaseException):
    """A stop signal arrived. Not a KeyboardInterrupt, which libraries catch for themselves."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def stop_at_signals() -> None:
    """Make every stop signal raise `Stopped` from now on."""
    for number in _handled_signals():
        signal.signal(number, _stop)


def leave_threads() -> None:
    """Say that a thread still runs torch, so that the process must end without Python's help."""
    _leaves_threads.append(True)


def leaves_threads() -> bool:
    """Whether a thread still runs torch. Python aborts if it ends while one does."""
    return bool(_leaves_threads)


def _stop(number: int, frame: object) -> NoReturn:
    _seen.append(number)
    raise Stopped(number)


def _handled_signals() -> list[signal.Signals]:
    """List the stop signals, without SIGHUP if `nohup` made this process ignore it."""
    return [
        number
        for number in SIGNALS
        if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN
    ]


class StopRequest:
    """A flag that a stop signal sets; calling it returns whether a signal has arrived.

    A second signal raises `Stopped`. So does the first one if nobody has called the flag or
    counted signals yet, since there is nothing to save then.

    Attributes:
        number: the last signal that arrived; None so far.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._was_called = False
        self._count: int | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in _handled_signals():
            self._handlers[number] = signal.signal(number, self._receive)
        # Python drops an exception raised in a destructor, so `Stopped` may have been lost.
        if _seen:
            raise Stopped(_seen[-1])
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        self._was_called = True
        return self.number is not None

    def count(self) -> int:
        """Return how many signals have arrived. From the first call on, none raises `Stopped`.

        An event loop needs this: it hands an exception to whichever task a signal meets.
        """
        self._was_called = True
        if self._count is None:
            self._count = 0
        return self._count

    def _receive(self, number: int, frame: object) -> None:
        is_first, self.number = self.number is None, number
        if self._count is not None:
            self._count += 1
        elif not (is_first and self._was_called):
            raise Stopped(number)
