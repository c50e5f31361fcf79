"""The command `serve`: load a source, and answer requests until it is stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sortednet_cli.engine.requests import ServeRequest
from sortednet_cli.engine.serving.app.application import make_app
from sortednet_cli.engine.serving.app.images import image_routes
from sortednet_cli.engine.serving.app.server import is_loopback, run_server, url_of
from sortednet_cli.engine.serving.app.texts import text_routes
from sortednet_cli.engine.serving.service import TextService, open_service
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.logs import logger


@dataclass(frozen=True)
class Serving:
    """A server that answers.

    Attributes:
        url: its address.
        path: the source's folder.
        model: the name of the largest sub-model.
        num_submodels: number of sub-models.
    """

    url: str
    path: Path
    model: str
    num_submodels: int


def serve(
    source: Source,
    request: ServeRequest,
    bound: socket.socket,
    num_stops: Callable[[], int],
    ready: Callable[[Serving], None],
) -> bool:
    """Serve a source on a bound socket until it is told to stop, as `run_server` says.

    Returns:
        As `run_server`.

    Raises:
        RequestError: as `open_service`.
    """
    service = open_service(source, request)
    routes = text_routes(service) if isinstance(service, TextService) else image_routes(service)
    created = max(int(file.stat().st_mtime) for file in source.weight_files)
    app = make_app(service, routes, request.api_key, created)
    if not is_loopback(bound) and request.api_key is None:
        logger.warning(
            "--host %s: others can reach this server, and no key guards it: set SORTEDNET_API_KEY",
            request.host,
        )
    serving = Serving(url_of(bound), source.path, service.names.name, len(source.space))
    return run_server(
        app, service.scheduler, bound, request.grace_seconds, num_stops, lambda: ready(serving)
    )
