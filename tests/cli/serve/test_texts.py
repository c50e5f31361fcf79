"""Completions and chats, with OpenAI's own client."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from sortednet_cli.storage.artifact import TOKENIZER_FILES
from tests.commands import command
from tests.served import NAME, Served, serving

SIZES = ("d1", "d2", "d3")
PROMPTS = ["The with statement", "An if", "a", "def f(x):", "é ☃", "raise", "while  True"]
TEMPLATE = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    "{% for message in messages %}[{{ message.role }}] {{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture
def prompts(work: Path) -> list[str]:
    """Prompts, which the file `prompts` holds too, one a line."""
    Path("prompts").write_text("\n".join(PROMPTS), encoding="utf-8")
    return PROMPTS


def generated(run: Path, size: str, *options: str) -> list[str]:
    """What `generate` writes after each of the prompts."""
    done = command(
        "generate", run, f"--depth={size[1:]}", "--json", "--quiet", "--prompt-file=prompts",
        "--max-new-tokens=20", *options,
    )  # fmt: skip
    assert done.code == 0, done
    return [answer["text"] for answer in json.loads(done.out)["completions"]]


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


def test_a_chat_from_a_stock_folder(run: Path, work: Path) -> None:
    """Any folder that transformers loads, if its tokenizer has a template."""
    assert command("extract", run, "--quiet", "--out=artifact").code == 0
    chat = Path("chat")
    chat.mkdir()
    for pattern in ("config.json", "generation_config.json", "model.safetensors", *TOKENIZER_FILES):
        for file in Path("artifact").glob(pattern):
            shutil.copy(file, chat)
    (chat / "chat_template.jinja").write_text(TEMPLATE)
    (chat / "generation_config.json").write_text('{"eos_token_id": 2}')  # not the template's
    messages: list[Any] = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": [{"type": "text", "text": "yes"}]},
    ]
    with serving(chat) as server, OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        fields: dict[str, Any] = {"model": "chat", "temperature": 0, "max_completion_tokens": 12}
        answer = client.chat.completions.create(messages=messages, **fields)
        text = "[user] hello<|end|>\n[assistant] yes<|end|>\n[assistant] "
        chunks = list(client.chat.completions.create(messages=messages, stream=True, **fields))
        assert chunks[0].choices[0].delta.role == "assistant"
        parts = [chunk.choices[0].delta.content or "" for chunk in chunks]
        assert "".join(parts) == answer.choices[0].message.content
        assert chunks[-1].choices[0].finish_reason == answer.choices[0].finish_reason == "length"
        assert answer.usage is not None and answer.usage.completion_tokens == 12
        tokens = len(command_tokens(chat, text))
        assert answer.usage.prompt_tokens == tokens
        # A client may send the answer back as it got it.
        again = [*messages, answer.choices[0].message, messages[0]]
        more = client.chat.completions.create(messages=again, **fields).usage
        assert more is not None and more.prompt_tokens > tokens + 12
        drawing: Any = {"temperature": 2, "seed": 7, "max_completion_tokens": 600}
        drawn = client.chat.completions.create(
            model="chat", messages=messages[:1], **drawing
        ).choices[0]
        done = command(
            "generate", chat, "--chat", "--prompt=hello", "--temperature=2", "--seed=7",
            "--max-new-tokens=600", "--json", "--quiet",
        )  # fmt: skip
        (same,) = json.loads(done.out)["completions"]
        assert same["finish"] == "end" and same["tokens"] < 600
        assert (drawn.message.content, drawn.finish_reason) == (same["text"], "stop")
        with pytest.raises(openai.BadRequestError, match="at least 1 item"):
            client.chat.completions.create(messages=[], **fields)
        with pytest.raises(openai.BadRequestError, match="chat template failed: no system here"):
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
