"""Listening, and stopping: what runs may end, the rest is refused."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from sortednet_cli.engine.serving.scheduler import Scheduler
from sortednet_cli.errors import RequestError, reason_of
from sortednet_cli.logs import logger

_TICK_SECONDS = 0.05
_LAST_SECONDS = 5
"""How long answers may take to reach their clients once all work has ended."""
_BACKLOG = 1024


class _Server(uvicorn.Server):
    """A server whose signals are handled by the command."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """Bind a socket, which does not listen yet; RequestError if the address cannot be had."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, proto)
    except UnicodeError as error:  # a label of the name is empty or too long
        raise RequestError(f"--host {host}: there is no such name") from error
    except OSError as error:
        raise RequestError(f"--host {host}: {reason_of(error)}") from error
    try:
        if hasattr(socket, "SO_REUSEADDR"):
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise RequestError(f"cannot listen on {host} port {port}: {reason_of(error)}") from error
    return bound


def is_loopback(bound: socket.socket) -> bool:
    """Whether only this machine can reach a socket."""
    return ipaddress.ip_address(bound.getsockname()[0]).is_loopback


def url_of(bound: socket.socket) -> str:
    """Return the address of a socket for a browser on this machine."""
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def run_server(
    app: FastAPI,
    scheduler: Scheduler,
    bound: socket.socket,
    grace_seconds: float,
    num_stops: Callable[[], int],
    ready: Callable[[], None],
) -> bool:
    """Serve until it is told to stop and everything has ended.

    Args:
        grace_seconds: how long running jobs may take to end.
        num_stops: how often it was told to stop; the second time cuts running jobs off.
        ready: called once the server answers.

    Returns:
        Whether all threads have ended; one may still be in a pass that was cut off.
    """
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_level="critical",  # errors are logged where they are answered
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_LAST_SECONDS,
    )
    num_stops()  # from here on a signal is counted, not raised
    scheduler.start()
    asyncio.run(_serve(_Server(config), scheduler, bound, grace_seconds, num_stops, ready))
    return scheduler.join(_LAST_SECONDS)


async def _serve(
    server: uvicorn.Server,
    scheduler: Scheduler,
    bound: socket.socket,
    grace_seconds: float,
    num_stops: Callable[[], int],
    ready: Callable[[], None],
) -> None:
    serving = asyncio.ensure_future(server.serve(sockets=[bound]))
    while not server.started and not serving.done():
        await asyncio.sleep(_TICK_SECONDS / 10)
    if not num_stops() and not serving.done():
        ready()
    while not num_stops() and not serving.done():
        await asyncio.sleep(_TICK_SECONDS)
    # The server still listens, so that who comes now hears why it is refused.
    running, refused = scheduler.num_active, scheduler.drain()
    logger.info("stopping: requests in work: %d, refused: %d", running, refused)
    end = time.monotonic() + grace_seconds
    while scheduler.num_active and not serving.done():
        if num_stops() > 1 or time.monotonic() > end:
            break
        await asyncio.sleep(_TICK_SECONDS)
    if (cut := scheduler.close()) and num_stops() < 2:
        logger.warning("%d requests took longer than %g s and were cut off", cut, grace_seconds)
    server.should_exit = True
    await serving
