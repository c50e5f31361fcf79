"""`sortednet serve` as its users ask it: with OpenAI's own client, and with anything else."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI, OpenAI

from sortednet_cli.storage.artifact import TOKENIZER_FILES
from tests.cli.test_generate import PICO
from tests.commands import command, refused, start
from tests.served import Served, serving

NAME = "pico"
SIZES = ("d1", "d2", "d3")
PROMPTS = ["The with statement", "An if", "a", "def f(x):\n", "é ☃", "raise", "while  True"]
TEMPLATE = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three sizes, with room for texts that take seconds."""
    folder = tmp_path_factory.mktemp("serve") / NAME
    long = "--set=model.config.max_position_embeddings=8192"
    done = command("train", *PICO, long, "--quiet", "--out", folder)
    assert (done.code, done.err) == (0, ""), done
    return folder


@pytest.fixture(scope="module")
def served(run: Path) -> Iterator[Served]:
    with serving(run) as server:
        yield server


@pytest.fixture
def client(served: Served) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def generated(run: Path, size: str, *options: str) -> list[str]:
    """What `generate` writes after each of the prompts that one line can hold."""
    done = command(
        "generate", run, f"--depth={size[1:]}", "--json", "--quiet", "--prompt-file=prompts",
        "--max-new-tokens=20", *options,
    )  # fmt: skip
    assert done.code == 0, done
    return [answer["text"] for answer in json.loads(done.out)["completions"]]


@pytest.fixture
def prompts(work: Path) -> list[str]:
    lines = [prompt for prompt in PROMPTS if "\n" not in prompt]
    Path("prompts").write_text("\n".join(lines), encoding="utf-8")
    return lines


def test_greedy_texts_are_those_of_generate_whatever_else_runs(
    run: Path, served: Served, prompts: list[str]
) -> None:
    """200 requests of three sizes at once, none lost."""
    expected = {size: generated(run, size) for size in SIZES}
    asked = [(number % len(prompts), SIZES[number % 3]) for number in range(200)]

    async def ask() -> list[Any]:
        async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
            return await asyncio.gather(
                *(
                    client.completions.create(
                        model=f"{NAME}:{size}",
                        prompt=prompts[number],
                        temperature=0,
                        max_tokens=20,
                    )
                    for number, size in asked
                )
            )

    steps = served.metric("batch_steps_total")
    answers = asyncio.run(ask())
    assert [answer.choices[0].text for answer in answers] == [
        expected[size][number] for number, size in asked
    ]
    assert [answer.model for answer in answers] == [f"{NAME}:{size}" for _, size in asked]
    for answer in answers:
        assert answer.usage.completion_tokens == 20
        assert answer.usage.total_tokens == 20 + answer.usage.prompt_tokens
    # They shared passes: alone they would have taken 19 each.
    assert served.metric("batch_steps_total") - steps < 200 * 19 / 2


def test_drawn_texts_are_those_of_generate(run: Path, client: OpenAI, prompts: list[str]) -> None:
    drawing = ("--temperature=1.5", "--top-p=0.9", "--seed=7")
    expected = generated(run, "d2", *drawing)[0]  # the first prompt's
    drawn = client.completions.create(
        model=f"{NAME}:d2", prompt=prompts[0], temperature=1.5, top_p=0.9, seed=7, max_tokens=20
    )
    assert drawn.choices[0].text == expected
    others = {
        client.completions.create(model=NAME, prompt="a", max_tokens=20).choices[0].text
        for _ in range(3)
    }
    assert len(others) == 3  # without a seed, each time another one


def test_a_stream_holds_the_same_text(client: OpenAI) -> None:
    fields: dict[str, Any] = {"model": NAME, "prompt": "é ☃", "seed": 3, "max_tokens": 40}
    whole = client.completions.create(**fields)
    usage = {"include_usage": True}
    chunks = list(client.completions.create(**fields, stream=True, stream_options=usage))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert [c.choices[0].finish_reason for c in chunks[-2:-1]] == ["length"]
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_a_text_ends_before_a_stop(client: OpenAI) -> None:
    fields: dict[str, Any] = {"model": NAME, "prompt": "The", "seed": 5, "max_tokens": 40}
    whole = client.completions.create(**fields).choices[0].text
    stop = whole[10:13]
    answer = client.completions.create(**fields, stop=["never", stop])
    assert answer.choices[0].text == whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    streamed = client.completions.create(**fields, stop=stop, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == whole[: whole.index(stop)]


def test_models_and_their_names(served: Served, client: OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names == [NAME, f"{NAME}:auto", f"{NAME}:d3", f"{NAME}:d2", f"{NAME}:d1"]
    record = client.models.retrieve(f"{NAME}:d2").model_dump()["sortednet"]
    assert record["axes"] == {"depth": 2} and record["metrics"]["perplexity"] > 1

    def model(name: str) -> str:
        made = client.completions.create(model=name, prompt="a", max_tokens=1)
        return str(made.model)

    assert model(NAME) == f"{NAME}:d3"
    assert model(f"{NAME}:depth=2") == f"{NAME}:d2"
    with pytest.raises(openai.NotFoundError, match=r"did you mean pico:d3\?"):
        client.models.retrieve("pica:d3")
    for name, said in (("pico:d7", "the sizes are d1, d2, d3"), ("pico:depth=9", "legal values")):
        with pytest.raises(openai.NotFoundError, match=said) as caught:
            model(name)
        assert caught.value.code == "model_not_found"


def test_auto_takes_the_best_that_is_fast_enough(client: OpenAI) -> None:
    def ask(limit: float) -> Any:
        return client.completions.create(
            model=f"{NAME}:auto", prompt="a", max_tokens=2, extra_body={"max_latency_ms": limit}
        )

    found = ask(1e6).model_dump()
    best = max(client.models.list().data[2:], key=_score)
    assert found["model"] == best.id
    assert 0 < found["sortednet"]["latency_ms"] < 1e6
    with pytest.raises(openai.BadRequestError, match=r"no sub-model is that fast; the fastest, d"):
        ask(1e-6)
    with pytest.raises(openai.BadRequestError, match="needs max_latency_ms"):
        client.completions.create(model=f"{NAME}:auto", prompt="a")
    with pytest.raises(openai.BadRequestError, match="only for model 'pico:auto'"):
        client.completions.create(model=NAME, prompt="a", extra_body={"max_latency_ms": 5})


def _score(model: Any) -> float:
    return -float(model.model_dump()["sortednet"]["metrics"]["perplexity"])


GOOD: dict[str, Any] = {"model": NAME, "prompt": "a", "temperature": 0, "max_tokens": 2}


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"prompt": ""}, 400, "the prompt is empty"),
        ({"prompt": ["a", "b"]}, 400, "prompt"),
        ({"prompt": [1, 2]}, 400, "prompt"),
        ({"prompt": "word " * 20_000}, 400, "more than the 8191 that fit"),
        ({"prompt": "\ud800"}, 400, "not valid JSON"),
        ({"max_tokens": 0}, 400, "max_tokens: input should be greater than or equal to 1"),
        ({"max_tokens": 9000}, 400, "max_tokens 9000 is more than 8191"),
        ({"max_tokens": "2"}, 400, "max_tokens"),
        ({"n": 2}, 400, "n: 2 is not supported"),
        ({"logprobs": 1}, 400, "logprobs: 1 is not supported"),
        ({"echo": True}, 400, "echo: true is not supported"),
        ({"frequency_penalty": 0.5}, 400, "frequency_penalty: 0.5 is not supported"),
        ({"temperature": -1}, 400, "temperature"),
        ({"temperature": float("nan")}, 400, "temperature"),
        ({"top_p": 0}, 400, "top_p"),
        ({"stop": ""}, 400, "stop"),
        ({"stop": ["x"] * 17}, 400, "stop"),
        ({"temprature": 1}, 400, "unknown field 'temprature' (did you mean temperature?)"),
        ({"model": None}, 400, "model: field required"),
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


def test_what_else_can_be_wrong(served: Served) -> None:
    body = json.dumps(GOOD).encode()
    assert served.ask("POST", "/v1/completions", body, content_type="text/plain").status == 415
    assert served.ask("GET", "/v1/completions").error["message"] == "Method Not Allowed"
    assert served.ask("GET", "/nowhere").status == 404
    assert served.ask("POST", "/classify", b"x").status == 404
    assert served.ask("GET", "/health").document == {"status": "ok"}
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


def test_a_full_queue_sends_clients_away(run: Path) -> None:
    with serving(run, "--max-active=1", "--max-queue=2") as server:
        long = {**GOOD, "max_tokens": 3000}
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda: answers.append(server.post("/v1/completions", long)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counts = [answer.status for answer in answers]
        assert set(counts) == {200, 429} and counts.count(200) in (3, 4)
        for answer in answers:
            if answer.status == 429:
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.error["code"] == "queue_full"
                assert answer.error["type"] == "rate_limit_error"
        assert server.metric("refused_total") == counts.count(429)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("stream", [False, True])
def test_work_ends_when_its_client_goes_away(served: Served, stream: bool) -> None:
    cancelled = served.metric("requests_total")
    tokens = served.metric("generated_tokens_total")
    connection = served.connection()
    body = json.dumps({**GOOD, "max_tokens": 8000, "stream": stream})
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    until(lambda: served.metric("active") == 1)
    if stream:
        assert connection.getresponse().read(40)
    assert connection.sock is not None
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    until(lambda: served.metric("active") == 0)
    assert served.metric("requests_total") == cancelled + 1
    assert served.metric("generated_tokens_total") == tokens  # it did not end by itself


def test_a_signal_lets_running_requests_end_and_refuses_the_rest(run: Path) -> None:
    with serving(run, "--max-active=2") as server:
        answers: list[Any] = []
        long = {**GOOD, "max_tokens": 3000}

        def ask() -> None:
            answers.append(server.post("/v1/completions", long))

        threads = [threading.Thread(target=ask) for _ in range(5)]
        for thread in threads:
            thread.start()
        until(lambda: (server.metric("active"), server.metric("queue")) == (2, 3))
        server.process.send_signal(signal.SIGTERM)
        until(lambda: len(answers) == 3)
        late = server.post("/v1/completions", GOOD)
        assert (late.status, server.ask("GET", "/health").status) == (503, 503)
        assert late.error["type"] == "server_error" and "retry-after" in late.headers
        for thread in threads:
            thread.join()
        assert [answer.status for answer in answers] == [503, 503, 503, 200, 200]
        for answer in answers[3:]:
            assert answer.document["usage"]["completion_tokens"] == 3000
        out, err = server.process.communicate(timeout=60)
        assert (server.process.returncode, out, err) == (128 + signal.SIGTERM, "", "")


@pytest.mark.parametrize("stream", [False, True])
def test_what_takes_longer_than_the_grace_is_cut_off(run: Path, stream: bool) -> None:
    with serving(run, "--grace=0.2") as server:
        answers: list[Any] = []
        long = {**GOOD, "max_tokens": 8000, "stream": stream}
        thread = threading.Thread(
            target=lambda: answers.append(server.post("/v1/completions", long))
        )
        thread.start()
        until(lambda: server.metric("active") == 1)
        server.process.send_signal(signal.SIGINT)
        _, err = server.process.communicate(timeout=60)
        thread.join()
        assert server.process.returncode == 128 + signal.SIGINT
        assert err == "1 requests took longer than 0.2 s and were cut off\n"
        if stream:
            events = answers[0].body.decode().split("\n\n")
            assert "the server is stopping" in events[-2] and "[DONE]" not in events[-2]
        else:
            assert (answers[0].status, answers[0].error["code"]) == (503, None)


def test_a_second_signal_stops_at_once(run: Path) -> None:
    with serving(run, "--grace=600") as server:
        connection = server.connection()
        body = json.dumps({**GOOD, "max_tokens": 8000})
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        until(lambda: server.metric("active") == 1)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.ask("GET", "/health").status == 503)
        server.process.send_signal(signal.SIGINT)
        _, err = server.process.communicate(timeout=60)
        assert server.process.returncode == 128 + signal.SIGINT
        assert err == "interrupted; nothing was left half-written\n"
        connection.close()


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


def test_a_chat_from_a_stock_folder(run: Path, work: Path) -> None:
    """Any folder that transformers loads, if its tokenizer has a template."""
    assert command("extract", run, "--quiet", "--out=artifact").code == 0
    chat = Path("chat")
    chat.mkdir()
    for pattern in ("config.json", "generation_config.json", "model.safetensors", *TOKENIZER_FILES):
        for file in Path("artifact").glob(pattern):
            shutil.copy(file, chat)
    (chat / "chat_template.jinja").write_text(TEMPLATE)
    messages: list[Any] = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": [{"type": "text", "text": "yes"}]},
    ]
    with serving(chat) as server, OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        fields: dict[str, Any] = {"model": "chat", "temperature": 0, "max_completion_tokens": 12}
        answer = client.chat.completions.create(messages=messages, **fields)
        text = "[user] hello\n[assistant] yes\n[assistant] "
        chunks = list(client.chat.completions.create(messages=messages, stream=True, **fields))
        assert chunks[0].choices[0].delta.role == "assistant"
        parts = [chunk.choices[0].delta.content or "" for chunk in chunks]
        assert "".join(parts) == answer.choices[0].message.content
        assert chunks[-1].choices[0].finish_reason == answer.choices[0].finish_reason == "length"
        assert answer.usage is not None and answer.usage.completion_tokens == 12
        tokens = len(command_tokens(chat, text))
        assert answer.usage.prompt_tokens == tokens
        with pytest.raises(openai.BadRequestError, match="at least 1 item"):
            client.chat.completions.create(messages=[], **fields)
        with pytest.raises(openai.BadRequestError, match="refuses: no system here"):
            system: Any = {"role": "system", "content": "be kind"}
            client.chat.completions.create(messages=[system], **fields)
        with pytest.raises(openai.BadRequestError, match="no scores to choose by"):
            auto: Any = {**fields, "model": "chat:auto", "extra_body": {"max_latency_ms": 9}}
            client.chat.completions.create(messages=messages, **auto)


def command_tokens(folder: Path, text: str) -> list[int]:
    from transformers import AutoTokenizer

    tokens: list[int] = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)[
        "input_ids"
    ]
    return tokens


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
    refused(command("serve", run), 2, "serve needs: pip install 'sortednet-cli[serve]'")


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
    _, err = process.communicate(timeout=60)
    assert "--host 0.0.0.0: others can reach this server, and no key guards it" in err
    assert err.endswith("stopping: 0 requests end, 0 are refused\n")
    assert process.returncode == 128 + signal.SIGTERM
