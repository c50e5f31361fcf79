"""Classification of images."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from sortednet_cli.engine.serving.app.bodies import bounded_parts
from sortednet_cli.engine.serving.app.errors import ApiError
from sortednet_cli.engine.serving.app.waiting import Waiting
from sortednet_cli.engine.serving.jobs import Classified

if TYPE_CHECKING:
    from sortednet_cli.engine.serving.service import ImageService

MAX_IMAGE_BYTES = 32 * 2**20
_MAX_DECODED = 2
"""How many images are decoded at once: a small file may hold 64 million pixels."""
_FIELDS = ("model", "max_latency_ms")


def image_routes(service: ImageService) -> APIRouter:
    """Return the route of a service that classifies images."""
    router, decoding = APIRouter(), asyncio.Semaphore(_MAX_DECODED)

    @router.post("/classify")
    async def classify(request: Request) -> Response:
        fields, data = await _read(request)
        model = fields.get("model", service.names.name)
        size = service.names.read(model, _milliseconds(fields.get("max_latency_ms")))
        async with decoding:
            image = await asyncio.to_thread(service.read, data)
        waiting = Waiting(
            request, service.scheduler, lambda emit: service.submit(size, image, emit)
        )
        try:
            started = await waiting.started()
            (result,) = await waiting.all_events()
        finally:
            waiting.leave()
        assert isinstance(result, Classified)
        pairs = sorted(
            zip(service.classes, result.probabilities, strict=True), key=lambda pair: -pair[1]
        )
        return JSONResponse(
            {
                "model": service.names.of(started.submodel),
                "label": pairs[0][0],
                "probabilities": dict(pairs),
                "sortednet": {
                    "submodel": started.submodel.name,
                    "latency_ms": started.latency_ms,
                },
            }
        )

    return router


async def _read(request: Request) -> tuple[dict[str, str], bytes]:
    """Read an image, and the fields beside it: of the form, or else of the address.

    Raises:
        ApiError: the form is damaged or has no file, a field is unknown, or the body is too large.
    """
    fields = dict(request.query_params)
    parts = bounded_parts(request, MAX_IMAGE_BYTES)
    media = request.headers.get("content-type", "").lower()
    if not media.startswith("multipart/form-data"):
        data = b"".join([part async for part in parts])
    else:
        parser = MultiPartParser(request.headers, parts, max_files=1, max_fields=len(_FIELDS))
        try:
            form = await parser.parse()
        except (MultiPartException, KeyError, ValueError) as error:
            reason = error.message if isinstance(error, MultiPartException) else "it is damaged"
            raise ApiError(400, f"the multipart body cannot be read: {reason}") from error
        uploads = [value for value in form.values() if isinstance(value, UploadFile)]
        fields |= {name: value for name, value in form.items() if isinstance(value, str)}
        if not uploads:
            raise ApiError(400, "the form has no file: send the image as one", param="file")
        data = await uploads[0].read()
        await form.close()
    if unknown := [name for name in fields if name not in _FIELDS]:
        name = unknown[0][:60]
        raise ApiError(400, f"unknown field {name!r}", param=name)
    return fields, data


def _milliseconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ApiError(
            400, f"max_latency_ms: {text[:60]!r} is not a positive number", param="max_latency_ms"
        )
    return value
