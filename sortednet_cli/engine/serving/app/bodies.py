"""What clients send: bounded bodies, and the fields of OpenAI's requests that have an effect here.

A field that would change the answer and is not supported is refused, unless it has the value that
changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Request
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from starlette.requests import ClientDisconnect

from sortednet_cli.engine.requests import SamplingOptions
from sortednet_cli.engine.serving.app.errors import ApiError
from sortednet_cli.errors import suggestion
from sortednet_cli.wrong_values import wrong_values

MAX_JSON_BYTES = 4 * 2**20
_SECONDS = 60.0
"""How long a client may take to send a body."""
_DISCARDED = 16
"""How many times the limit is read and dropped, so that the client sees the answer."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False,),
    "top_logprobs": (),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "store": (False,),
    "service_tier": ("auto", "default"),
}
"""Fields that are not supported, and the values with which they change nothing."""

_Stop = Annotated[str, Field(min_length=1, max_length=256)]


def _without_nulls(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


class _Part(BaseModel):
    """An object within a body. As in the body itself, null stands for what is left out."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, given: Any) -> Any:
        return _without_nulls(given) if isinstance(given, dict) else given


class _StreamOptions(_Part):
    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class _TextBody(BaseModel):
    """The fields that completions and chats share."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    max_latency_ms: float | None = Field(None, gt=0, allow_inf_nan=False)
    temperature: float = Field(1.0, ge=0, le=2, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: _Stop | Annotated[list[_Stop], Field(max_length=16)] = []
    stream: bool = False
    stream_options: _StreamOptions = _StreamOptions()
    user: str | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop

    @property
    def sampling(self) -> SamplingOptions | None:
        """How to sample; None at temperature 0, which takes the most likely token."""
        if self.temperature == 0:
            return None
        seed = secrets.randbits(63) if self.seed is None else self.seed
        return SamplingOptions(self.temperature, self.top_p, seed)


class CompletionBody(_TextBody):
    """The body of `/v1/completions`."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=1)]
    max_tokens: int = Field(16, ge=1)

    @property
    def text(self) -> str:
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]


class _TextPart(_Part):
    type: Literal["text"]
    text: str


def _refuse(given: list[Any]) -> list[Any]:
    if given:
        raise ValueError("it is not supported")
    return given


_Empty = Annotated[list[Any], AfterValidator(_refuse)]


class _Message(_Part):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_TextPart]
    name: str | None = None
    # Clients send an answer back as they got it.
    annotations: _Empty = []
    tool_calls: _Empty = []


class ChatBody(_TextBody):
    """The body of `/v1/chat/completions`."""

    messages: list[_Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)

    @property
    def most(self) -> int | None:
        """Most new tokens; None for as many as there may be."""
        given = (self.max_completion_tokens, self.max_tokens)
        return min((count for count in given if count is not None), default=None)

    @property
    def chat(self) -> list[dict[str, str]]:
        """The messages as a chat template takes them."""
        return [
            {"role": message.role, "content": _joined(message.content)}
            | ({} if message.name is None else {"name": message.name})
            for message in self.messages
        ]


Body = TypeVar("Body", bound=_TextBody)


async def read_body(request: Request, kind: type[Body]) -> Body:
    """Read and check a JSON body.

    Raises:
        ApiError: it is no JSON, too large, or a field is wrong; the message names the field.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise ApiError(415, "send JSON with the header Content-Type: application/json")
    raw = b"".join([part async for part in bounded_parts(request, MAX_JSON_BYTES)])
    try:
        values = json.loads(raw)
        json.dumps(values, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ApiError(400, f"the body is not valid JSON: {reason}") from error
    if not isinstance(values, dict):
        raise ApiError(400, "the body must be a JSON object")
    try:
        return kind.model_validate(_supported(_without_nulls(values), kind))
    except ValidationError as error:
        first = next(wrong_values(error.errors()))
        message = f"{'.'.join(map(str, first.path))}: {first.message}"
        raise ApiError(400, message, param=str(first.path[0])) from error


async def bounded_parts(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    """Yield a body in parts.

    Raises:
        ApiError: it has more than `most` bytes, or takes too long.
    """
    count = 0
    try:
        async with asyncio.timeout(_SECONDS):
            async for part in request.stream():
                count += len(part)
                if count <= most:
                    yield part
                elif count > _DISCARDED * most:
                    break
    except TimeoutError as error:
        raise ApiError(408, f"the body took longer than {_SECONDS:g} s") from error
    except ClientDisconnect as error:
        raise ApiError(400, "the client went away") from error
    if count > most:
        raise ApiError(413, f"the body has more than {most:,} bytes")


def _supported(given: Mapping[str, Any], kind: type[BaseModel]) -> dict[str, Any]:
    """Return the fields that have an effect.

    Raises:
        ApiError: there is no such field, or it has a value that is not supported.
    """
    fields = {}
    for name, value in given.items():
        if name in kind.model_fields:
            fields[name] = value
        elif name not in _NEUTRAL:
            hint = suggestion(name, kind.model_fields)
            raise ApiError(400, f"unknown field {name[:60]!r}{hint}", param=name[:60])
        elif not any(_is_same(value, neutral) for neutral in _NEUTRAL[name]):
            raise ApiError(400, f"{name}: {json.dumps(value)[:60]} is not supported", param=name)
    return fields


def _is_same(value: object, other: object) -> bool:
    """Whether two JSON values are equal; 0.0 is 0, but false is not."""
    return isinstance(value, bool) == isinstance(other, bool) and value == other


def _joined(content: str | list[_TextPart]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
