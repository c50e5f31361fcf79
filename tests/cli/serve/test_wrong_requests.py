"""Every wrong request gets one clear answer, and so does every wrong command."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import OpenAI

from tests.commands import command, refused, start
from tests.served import GOOD, NAME, Served, serving


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"prompt": ""}, 400, "the prompt is empty"),
        ({"prompt": ["a", "b"]}, 400, "prompt"),
        ({"prompt": [1, 2]}, 400, "prompt"),
        ({"prompt": "word " * 20_000}, 400, "more than the 8191 that fit"),
        ({"prompt": "\ud800"}, 400, "not valid JSON"),
        ({"max_tokens": 0}, 400, "max_tokens: must be greater than or equal to 1"),
        ({"max_tokens": 9000}, 400, "max_tokens 9000 is more than 8191"),
        ({"max_tokens": "2"}, 400, "max_tokens"),
        ({"n": 2}, 400, "n: 2 is not supported"),
        ({"n": True}, 400, "n: true is not supported"),
        ({"logprobs": 1}, 400, "logprobs: 1 is not supported"),
        ({"echo": True}, 400, "echo: true is not supported"),
        ({"frequency_penalty": 0.5}, 400, "frequency_penalty: 0.5 is not supported"),
        ({"temperature": -1}, 400, "temperature"),
        ({"temperature": float("nan")}, 400, "temperature"),
        ({"top_p": 0}, 400, "top_p"),
        ({"stop": ""}, 400, "stop"),
        ({"stop": ["x"] * 17}, 400, "stop"),
        ({"temprature": 1}, 400, "unknown field 'temprature' (did you mean temperature?)"),
        ({"model": None}, 400, "model: it is missing"),
        ({"model": NAME * 200}, 404, "no model has a name of 800 characters"),
        ({"model": "gpt-4"}, 404, "no model 'gpt-4': the models are 'pico'"),
    ],
)
def test_wrong_fields(served: Served, change: dict[str, Any], status: int, said: str) -> None:
    answer = served.post("/v1/completions", {**GOOD, **change})
    assert answer.status == status, answer
    assert said in answer.error["message"]
    assert answer.error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "not valid JSON"),
        (b"{", 400, "not valid JSON"),
        (b"[]", 400, "must be a JSON object"),
        (b'{"model": "\xff"}', 400, "not valid JSON"),
        (b"[" * 200_000, 400, "nested too deeply"),
        (b'{"max_tokens": 1' + b"0" * 9000 + b"}", 400, "not valid JSON"),
        (b" " * (4 * 2**20 + 1), 413, "more than 4,194,304 bytes"),
    ],
)
def test_wrong_bodies(served: Served, body: bytes, status: int, said: str) -> None:
    answer = served.ask("POST", "/v1/completions", body, content_type="application/json")
    assert (answer.status, said in answer.error["message"]) == (status, True), answer


def test_values_that_change_nothing(served: Served) -> None:
    neutral = {
        "n": 1,
        "frequency_penalty": 0.0,
        "presence_penalty": 0,
        "logit_bias": {},
        "echo": None,
        "user": "me",
        "safety_identifier": "me",
        "prompt_cache_key": "a",
    }
    answers = [served.post("/v1/completions", {**GOOD, **extra}) for extra in ({}, neutral)]
    assert [answer.status for answer in answers] == [200, 200], answers
    first, second = (answer.document["choices"] for answer in answers)
    assert first == second


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tool_calls": [{"id": "a"}]}, "messages.0.tool_calls: it is not supported"),
        ({"refusal": "no"}, "messages.0.refusal: extra inputs are not permitted"),
        ({"content": None}, "messages.0.content: it is missing"),
        ({"role": "tool"}, "messages.0.role: must be 'system', 'developer', 'user' or 'assistant'"),
    ],
)
def test_wrong_messages(served: Served, change: dict[str, Any], said: str) -> None:
    chat = {"model": NAME, "messages": [{"role": "assistant", "content": "a", **change}]}
    answer = served.post("/v1/chat/completions", chat)
    assert (answer.status, said in answer.error["message"]) == (400, True), answer


def test_the_limit_is_named_as_the_client_names_it(served: Served) -> None:
    chat = {"model": NAME, "messages": [{"role": "user", "content": "a"}]}
    error = served.post("/v1/chat/completions", {**chat, "max_completion_tokens": 9000}).error
    assert error["message"] == "max_completion_tokens 9000 is more than 8191"
    assert error["param"] == "max_completion_tokens"


def test_a_prompt_that_is_too_long_has_the_code_that_clients_look_for(served: Served) -> None:
    answer = served.post("/v1/completions", {**GOOD, "prompt": "word " * 20_000})
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")


def test_what_else_can_be_wrong(served: Served) -> None:
    body = json.dumps(GOOD).encode()
    assert served.ask("POST", "/v1/completions", body, content_type="text/plain").status == 415
    assert served.ask("GET", "/v1/completions").error["message"] == "Method Not Allowed"
    assert served.ask("GET", "/nowhere").status == 404
    assert served.ask("POST", "/classify", b"x").status == 404
    assert served.ask("GET", "/health").document == {"status": "ok"}
    assert served.ask("HEAD", "/health").status == 200
    assert served.ask("GET", "/health").headers.keys() & {"access-control-allow-origin"} == set()
    chat = {"model": NAME, "messages": [{"role": "user", "content": "hello"}]}
    refusal = served.post("/v1/chat/completions", chat)
    assert (refusal.status, "no chat template" in refusal.error["message"]) == (400, True)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=4,
)
_FIELDS = st.sampled_from(
    ["model", "prompt", "messages", "max_tokens", "temperature", "top_p", "seed", "stop", "stream"]
) | st.sampled_from(
    ["n", "logprobs", "user", "stream_options", "max_latency_ms", "logit_bias", "metadata"]
)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    path=st.sampled_from(["/v1/completions", "/v1/chat/completions"]),
    change=st.dictionaries(_FIELDS, _JSON, max_size=3),
    raw=st.none() | st.binary(max_size=20),
)
def test_any_body_is_answered(
    served: Served, path: str, change: dict[str, Any], raw: bytes | None
) -> None:
    body = json.dumps({**GOOD, **change}).encode() if raw is None else raw
    answer = served.ask("POST", path, body, content_type="application/json")
    assert answer.status in (200, 400, 404), answer
    if answer.status != 200:
        assert answer.error["message"]


def test_a_key(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORTEDNET_API_KEY", "sesame")
    with serving(run) as server:
        assert server.ask("GET", "/health").status == 200
        for path in ("/metrics", "/v1/models", "/v1/models/pico"):
            answer = server.ask("GET", path)
            assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
            assert server.ask("GET", path, Authorization="Bearer sésame").status == 401
            assert server.ask("GET", path, Authorization="Bearer sesame").status == 200
        with OpenAI(base_url=f"{server.url}/v1", api_key="sesame") as client:
            assert client.completions.create(model=NAME, prompt="a").usage is not None
        assert server.post("/v1/completions", GOOD).status == 401


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port=70000"], "--port must be from 0 to 65535"),
        (["--max-active=0"], "--max-active must be at least 1"),
        (["--max-queue=0"], "--max-queue must be at least 1"),
        (["--max-tokens=0"], "--max-tokens must be at least 1"),
        (["--max-tokens=8192"], "--max-tokens 8192: the context is 8192 tokens"),
        (["--grace=-1"], "--grace must be a number of seconds"),
        (["--host=no.such.host.invalid"], "--host no.such.host.invalid"),
        (["--host=a..b"], "--host a..b: there is no such name"),
    ],
)
def test_wrong_requests(run: Path, arguments: list[str], said: str) -> None:
    refused(command("serve", run, "--port=0", *arguments), 2, said)


def test_a_port_that_is_taken(run: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refused(
            command("serve", run, f"--port={port}"), 2, f"cannot listen on 127.0.0.1 port {port}"
        )


def test_a_missing_package(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sortednet_cli.engine import checks

    monkeypatch.setattr(checks, "find_spec", lambda name: None if name == "uvicorn" else True)
    refused(command("serve", run), 2, "serve needs: pip install '.[serve]' in your checkout")


def test_an_empty_key_is_none(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORTEDNET_API_KEY", "")
    refused(command("serve", run), 2, "SORTEDNET_API_KEY must be printable ASCII")


def test_an_open_address_without_a_key_is_told(run: Path) -> None:
    process = start("serve", run, "--port=0", "--host=0.0.0.0", "--json")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(6)]
    document = json.loads("".join(lines))
    assert document == {"url": document["url"], "run": str(run), "model": NAME, "submodels": 3}
    assert document["url"].startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=600)
    assert "--host 0.0.0.0: others can reach this server, and no key guards it" in err
    assert err.endswith("stopping: requests in work: 0, refused: 0\n")
    assert process.returncode == 128 + signal.SIGTERM
