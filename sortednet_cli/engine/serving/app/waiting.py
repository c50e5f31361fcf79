"""Waiting for a job's events while its client may go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from fastapi import Request

from sortednet_cli.engine.serving.app.errors import ApiError, error_of
from sortednet_cli.engine.serving.jobs import (
    Classified,
    Event,
    Failed,
    Finished,
    Job,
    Started,
)
from sortednet_cli.engine.serving.scheduler import Scheduler


class Waiting:
    """The events of one job, which another thread sends. Leaving it cancels what is left to do.

    Args:
        submit: queues a job that sends its events to the function given to it.
    """

    def __init__(
        self,
        request: Request,
        scheduler: Scheduler,
        submit: Callable[[Callable[[Event], None]], Job],
    ) -> None:
        self._request, self._scheduler = request, scheduler
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._job = submit(self._receive)

    def leave(self) -> None:
        """Cancel the job, unless it has ended."""
        self._scheduler.cancel(self._job)

    async def started(self) -> Started:
        """Wait until work begins.

        Raises:
            ApiError: it does not, or the client went away.
        """
        event = await self._next_if_there()
        assert isinstance(event, Started)
        return event

    async def events(self) -> AsyncIterator[Event]:
        """Yield the events up to the last one; ApiError if that is a failure."""
        while True:
            event = _checked(await self._events.get())
            yield event
            if isinstance(event, Finished | Classified):
                return

    async def all_events(self) -> list[Event]:
        """Wait for all events.

        Raises:
            ApiError: the job failed, or the client went away.
        """
        found: list[Event] = []
        while not (found and isinstance(found[-1], Finished | Classified)):
            found.append(await self._next_if_there())
        return found

    def _receive(self, event: Event) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def _next_if_there(self) -> Event:
        """Wait for an event; ApiError if the client goes away first, or it is a failure."""
        if self._events.empty():
            gone = asyncio.ensure_future(_until_gone(self._request))
            event = asyncio.ensure_future(self._events.get())
            try:
                await asyncio.wait({gone, event}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone.cancel()
                if not event.done():
                    event.cancel()
            if not event.done():
                raise ApiError(499, "the client went away")
            return _checked(event.result())
        return _checked(self._events.get_nowait())


def _checked(event: Event) -> Event:
    if isinstance(event, Failed):
        raise error_of(event)
    return event


async def _until_gone(request: Request) -> None:
    """Wait until the client closes its connection; its body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
