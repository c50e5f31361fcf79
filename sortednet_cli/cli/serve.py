"""`sortednet serve`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from sortednet_cli import engine
from sortednet_cli.cli import options, stops
from sortednet_cli.cli.render import print_json
from sortednet_cli.cli.stops import Stopped, StopRequest
from sortednet_cli.engine import ServeRequest, SourceRequest
from sortednet_cli.errors import RequestError
from sortednet_cli.logs import logger

if TYPE_CHECKING:
    from sortednet_cli.engine import Serving

KEY_VARIABLE = "SORTEDNET_API_KEY"

_HostOption = Annotated[
    str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")
]
_PortOption = Annotated[
    int, typer.Option("--port", metavar="N", help="Port to listen on. 0 takes a free one.")
]
_MaxActiveOption = Annotated[
    int,
    typer.Option(
        "--max-active", metavar="N", help="Most requests to work on at once, over all sizes."
    ),
]
_MaxQueueOption = Annotated[
    int,
    typer.Option("--max-queue", metavar="N", help="Most requests that wait; others get 429."),
]
_MaxTokensOption = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        metavar="N",
        help="Most new tokens that a request may ask for. Default: the model's context.",
        show_default=False,
    ),
]
_GraceOption = Annotated[
    float,
    typer.Option(
        "--grace", metavar="SECONDS", help="How long running requests may take after a signal."
    ),
]


def serve(
    path: options.SourceArgument = None,
    host: _HostOption = ServeRequest.host,
    port: _PortOption = ServeRequest.port,
    max_active: _MaxActiveOption = ServeRequest.max_active,
    max_queue: _MaxQueueOption = ServeRequest.max_queue,
    max_tokens: _MaxTokensOption = None,
    grace: _GraceOption = ServeRequest.grace_seconds,
    allow_factory: options.AllowOption = None,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    verbose: options.VerboseOption = False,
) -> int:
    """Answer HTTP requests as OpenAI's API does, for every sub-model; print the address.

    Weights are in memory once. A request names the size: NAME:w0.5-d8, or NAME:auto with
    max_latency_ms. Classifiers of images answer POST /classify. If SORTEDNET_API_KEY is set,
    requests must bring that key.

    Example: sortednet serve runs/pydoc-llama --port 8000
    """
    options.set_verbosity(quiet, verbose)
    _check(port, max_active, max_queue, max_tokens, grace)
    request = ServeRequest(
        SourceRequest(path, tuple(allow_factory or ())),
        host=host,
        port=port,
        max_active=max_active,
        max_queue=max_queue,
        max_tokens=max_tokens,
        grace_seconds=grace,
        api_key=_read_key(),
        device=device,
    )

    def ready(serving: Serving) -> None:
        if as_json:
            print_json(
                {
                    "url": serving.url,
                    "run": str(serving.path),
                    "model": serving.model,
                    "submodels": serving.num_submodels,
                }
            )
        else:
            typer.echo(serving.url)
        sys.stdout.flush()  # whoever started the server waits for it
        logger.info("%d sub-models as %s:SIZE", serving.num_submodels, serving.model)

    stop = StopRequest()
    with stop:
        if not engine.serve(request, stop.count, ready):
            stops.leave_threads()
    if stop.number is not None and stop.count() > 1:
        raise Stopped(stop.number)
    return 0 if stop.number is None else 128 + stop.number


def _check(
    port: int, max_active: int, max_queue: int, max_tokens: int | None, grace: float
) -> None:
    if not 0 <= port < 2**16:
        raise RequestError(f"--port must be from 0 to 65535, not {port}")
    counts = {"--max-active": max_active, "--max-queue": max_queue, "--max-tokens": max_tokens}
    for option, count in counts.items():
        if count is not None and count < 1:
            raise RequestError(f"{option} must be at least 1, not {count}")
    if not 0 <= grace < float("inf"):
        raise RequestError(f"--grace must be a number of seconds from 0, not {grace:g}")


def _read_key() -> str | None:
    """Read the key that requests must bring; RequestError if it is empty or cannot be sent."""
    key = os.environ.get(KEY_VARIABLE)
    if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key != ""):
        raise RequestError(f"{KEY_VARIABLE} must be printable ASCII without spaces around it")
    return key
