"""Completions and chats."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from sortednet_cli.engine.serving.app.bodies import ChatBody, CompletionBody, read_body
from sortednet_cli.engine.serving.app.errors import ApiError
from sortednet_cli.engine.serving.app.waiting import Waiting
from sortednet_cli.engine.serving.jobs import Finished, Piece, Started

if TYPE_CHECKING:
    from sortednet_cli.engine.serving.service import TextService


def text_routes(service: TextService) -> APIRouter:
    """Return the routes of a service that generates texts."""
    router = APIRouter()

    @router.post("/v1/completions")
    async def completions(request: Request) -> Response:
        body = await read_body(request, CompletionBody)
        _check_most(body, service)
        size = service.names.read(body.model, body.max_latency_ms)
        tokens = await asyncio.to_thread(service.encode, body.text)
        waiting = Waiting(
            request,
            service.scheduler,
            lambda emit: service.submit(
                size, tokens, body.max_tokens, body.stops, body.sampling, emit
            ),
        )
        return await _answer(body, waiting, _Completion, len(tokens), service)

    @router.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = await read_body(request, ChatBody)
        _check_most(body, service)
        size = service.names.read(body.model, body.max_latency_ms)
        tokens = await asyncio.to_thread(service.encode_chat, body.chat)
        waiting = Waiting(
            request,
            service.scheduler,
            lambda emit: service.submit(
                size, tokens, body.most, body.stops, body.sampling, emit, is_chat=True
            ),
        )
        return await _answer(body, waiting, _Chat, len(tokens), service)

    return router


def _check_most(body: CompletionBody | ChatBody, service: TextService) -> None:
    """ApiError if a request asks for more new tokens than it may."""
    for field in ("max_tokens", "max_completion_tokens"):
        count = getattr(body, field, None)
        if count is not None and count > service.max_tokens:
            raise ApiError(400, f"{field} {count} is more than {service.max_tokens}", param=field)


@dataclass
class _Completion:
    """The JSON of one text completion, whole or in chunks.

    Attributes:
        model: full name of the sub-model.
        started: the sub-model, and its measured time.
        prompt_tokens: number of tokens of the prompt.
    """

    model: str
    started: Started
    prompt_tokens: int
    prefix = "cmpl-"
    kind = chunk_kind = "text_completion"

    def __post_init__(self) -> None:
        self._id = self.prefix + secrets.token_hex(12)
        self._created = int(time.time())

    def whole(self, text: str, end: Finished) -> dict[str, Any]:
        """Return the document of a complete text."""
        choice = {**self.message(text), "logprobs": None, "finish_reason": end.reason}
        return self._document(self.kind, choice) | {"usage": self._usage(end)}

    def chunk(self, text: str | None, end: Finished | None = None) -> dict[str, Any]:
        """Return the chunk of a piece of text, or of the end."""
        reason = None if end is None else end.reason
        choice = {**self.delta(text), "logprobs": None, "finish_reason": reason}
        return self._document(self.chunk_kind, choice)

    def usage_chunk(self, end: Finished) -> dict[str, Any]:
        """Return the chunk of the counts of tokens."""
        return self._document(self.chunk_kind, None) | {"usage": self._usage(end)}

    def first(self) -> list[dict[str, Any]]:
        """Return the chunks before the text."""
        return []

    def message(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def delta(self, text: str | None) -> dict[str, Any]:
        return {"text": text or ""}

    def _document(self, kind: str, choice: dict[str, Any] | None) -> dict[str, Any]:
        submodel = self.started.submodel
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self.model,
            "choices": [] if choice is None else [{"index": 0, **choice}],
            "sortednet": {"submodel": submodel.name, "latency_ms": self.started.latency_ms},
        }

    def _usage(self, end: Finished) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": end.tokens,
            "total_tokens": self.prompt_tokens + end.tokens,
        }


class _Chat(_Completion):
    """The JSON of one answer in a chat."""

    prefix = "chatcmpl-"
    kind, chunk_kind = "chat.completion", "chat.completion.chunk"

    def first(self) -> list[dict[str, Any]]:
        choice = {"delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        return [self._document(self.chunk_kind, {**choice, "logprobs": None})]

    def message(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def delta(self, text: str | None) -> dict[str, Any]:
        return {"delta": {} if text is None else {"content": text}}


async def _answer(
    body: CompletionBody | ChatBody,
    waiting: Waiting,
    kind: type[_Completion],
    prompt_tokens: int,
    service: TextService,
) -> Response:
    """Answer with a whole text or a stream; ApiError before that if the work cannot begin."""
    streams = False
    try:
        started = await waiting.started()
        form = kind(service.names.of(started.submodel), started, prompt_tokens)
        if body.stream:
            streams = True
            stream = _stream(form, waiting, body.stream_options.include_usage)
            return StreamingResponse(stream, media_type="text/event-stream")
        events = await waiting.all_events()
        text = "".join(event.text for event in events if isinstance(event, Piece))
        assert isinstance(events[-1], Finished)
        return JSONResponse(form.whole(text, events[-1]))
    finally:
        if not streams:
            waiting.leave()


async def _stream(form: _Completion, waiting: Waiting, with_usage: bool) -> AsyncIterator[str]:
    """Yield server-sent events; a failure is the last one, in place of `[DONE]`."""
    try:
        for chunk in form.first():
            yield _event(chunk)
        async for event in waiting.events():
            if isinstance(event, Piece):
                yield _event(form.chunk(event.text))
            elif isinstance(event, Finished):
                yield _event(form.chunk(None, event))
                if with_usage:
                    yield _event(form.usage_chunk(event))
        yield "data: [DONE]\n\n"
    except ApiError as error:
        yield _event(error.document())
    finally:
        waiting.leave()


def _event(document: dict[str, Any]) -> str:
    return f"data: {json.dumps(document)}\n\n"
