"""The application: all routes of a service."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from sortednet_cli.engine.serving.app.errors import ApiError, handle_errors
from sortednet_cli.engine.serving.choice import AUTO

if TYPE_CHECKING:
    from sortednet_cli.engine.serving.service import ImageService, TextService

MAX_LISTED = 1024
"""Most sub-models that the list of models names; all others can be asked for too."""


def make_app(
    service: TextService | ImageService, routes: APIRouter, api_key: str | None, created: int
) -> FastAPI:
    """Make the application of a service.

    Args:
        routes: what it does with texts or images.
        api_key: the key that requests must bring; None for no check.
        created: the time of the weights, in seconds since 1970.
    """
    app = FastAPI(title="sortednet", docs_url=None, redoc_url=None, openapi_url=None)
    handle_errors(app, service.metrics)

    @app.api_route("/health", methods=["GET", "HEAD"])  # load balancers send either
    async def health() -> Response:
        accepts = service.scheduler.accepts
        status = "ok" if accepts else "stopping"
        return JSONResponse({"status": status}, 200 if accepts else 503)

    guarded = APIRouter(dependencies=[Depends(_key_check(api_key))])

    @guarded.get("/metrics")
    async def metrics() -> Response:
        scheduler = service.scheduler
        gauges = {"queue": scheduler.num_waiting, "active": scheduler.num_active}
        return PlainTextResponse(
            service.metrics.text(gauges), media_type="text/plain; version=0.0.4"
        )

    @guarded.get("/v1/models")
    async def models() -> Response:
        submodels = service.names.space.submodels
        listed = submodels[::-1] if len(submodels) <= MAX_LISTED else submodels[-1:]
        names = [service.names.name, f"{service.names.name}:{AUTO}"]
        data = [_model(service, name, created) for name in (*names, *map(service.names.of, listed))]
        return JSONResponse({"object": "list", "data": data})

    @guarded.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        if name != f"{service.names.name}:{AUTO}":
            service.names.read(name)
        return JSONResponse(_model(service, name, created))

    app.include_router(guarded)
    app.include_router(routes, dependencies=[Depends(_key_check(api_key))])
    return app


def _model(service: TextService | ImageService, name: str, created: int) -> dict[str, Any]:
    """Return the record of a model: OpenAI's fields, and its sub-model's as every command has it.

    Without scores the sub-model's name and axes are all that is known.
    """
    record: dict[str, Any] = {"submodels": len(service.names.space)}
    if not name.endswith(f":{AUTO}"):
        submodel = service.names.read(name).submodel
        assert submodel is not None
        known = {"name": submodel.name, "axes": submodel.axes}
        record = dict(service.rows.get(submodel.name, known))
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "sortednet",
        "sortednet": record,
    }


def _key_check(api_key: str | None) -> Any:
    """Return a dependency that raises ApiError unless a request brings the key."""
    expected = None if api_key is None else f"Bearer {api_key}".encode()

    async def check(request: Request) -> None:
        given = request.headers.get("authorization", "").encode("latin-1", "replace")
        if expected is not None and not hmac.compare_digest(given, expected):
            raise ApiError(
                401,
                "wrong or missing key: send the header Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    return check
