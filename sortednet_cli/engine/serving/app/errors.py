"""Errors as OpenAI's API answers them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sortednet_cli.engine.serving.choice import UnknownModel
from sortednet_cli.engine.serving.jobs import Failed
from sortednet_cli.engine.serving.metrics import Metrics
from sortednet_cli.engine.serving.scheduler import Closing, QueueFull
from sortednet_cli.errors import PromptTooLong, RequestError
from sortednet_cli.logs import logger

RETRY = {"Retry-After": "1"}
_CLOSING = "the server is stopping"
_STATUS_OF_CAUSE = {"request": 400, "closing": 503, "work": 500}


class ApiError(Exception):
    """An answer other than success.

    Args:
        status: the HTTP status.
        param: the field that is wrong.
        code: a word for programs.
        headers: further headers.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.headers = headers or {}

    def document(self) -> dict[str, Any]:
        """Return the JSON of the error."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        if self.status == 429:
            kind = "rate_limit_error"
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return {"error": error}


def error_of(failed: Failed) -> ApiError:
    """Return the error that answers a failed job."""
    headers = RETRY if failed.cause == "closing" else None
    return ApiError(_STATUS_OF_CAUSE[failed.cause], failed.message, headers=headers)


def handle_errors(app: FastAPI, metrics: Metrics) -> None:
    """Answer every error of the app's routes in one form, and count it."""

    def answer(error: ApiError) -> JSONResponse:
        metrics.count_refused(error.status)
        return JSONResponse(error.document(), error.status, headers=error.headers)

    def known(request: Request, error: Exception) -> JSONResponse:
        return answer(_as_api_error(error))

    def unknown(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return answer(ApiError(500, "the server failed; its log says why"))

    for kind in (ApiError, RequestError, QueueFull, Closing, HTTPException):
        app.add_exception_handler(kind, known)
    app.add_exception_handler(Exception, unknown)


def _as_api_error(error: Exception) -> ApiError:
    match error:
        case ApiError():
            return error
        case UnknownModel():
            return ApiError(404, str(error), param="model", code="model_not_found")
        case QueueFull():
            return ApiError(
                429, "too many requests wait: try again later", code="queue_full", headers=RETRY
            )
        case Closing():
            return ApiError(503, _CLOSING, headers=RETRY)
        case HTTPException():
            return ApiError(error.status_code, error.detail, headers=dict(error.headers or {}))
    code = "context_length_exceeded" if isinstance(error, PromptTooLong) else None
    return ApiError(400, str(error), code=code)
