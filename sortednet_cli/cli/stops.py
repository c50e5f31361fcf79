"""Signals that ask a command to stop: at once, or as soon as a training is saved."""

from __future__ import annotations

import signal
from typing import Any, NoReturn, Self

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""A closed terminal sends SIGHUP; a closed console of Windows, and Ctrl+Break there, SIGBREAK."""

SIGNALS = tuple(signal.Signals[name] for name in _NAMES if hasattr(signal, name))
"""Those that the system has."""

_seen: list[int] = []


class Stopped(BaseException):
    """A signal came. No KeyboardInterrupt: that one is answered in other places too."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def stop_at_signals() -> None:
    """Let every signal that asks to stop raise `Stopped`, from now on."""
    for number in _heeded():
        signal.signal(number, _stop)


def _stop(number: int, frame: object) -> NoReturn:
    _seen.append(number)
    raise Stopped(number)


def _heeded() -> list[signal.Signals]:
    """All of them, but what `nohup` has told this process to ignore."""
    return [
        number
        for number in SIGNALS
        if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN
    ]


class StopRequest:
    """True once a signal came.

    A second one raises `Stopped`, and so does the first before the training has asked: then
    there is nothing yet that would be lost.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._asked = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in _heeded():
            self._handlers[number] = signal.signal(number, self._receive)
        if _seen:  # and its exception was lost where Python cannot raise, as in a destructor
            raise Stopped(_seen[-1])
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        self._asked = True
        return self.number is not None

    def _receive(self, number: int, frame: object) -> None:
        if self.number is not None or not self._asked:
            self.number = number
            raise Stopped(number)
        self.number = number
