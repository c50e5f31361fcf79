"""Names of models, and the choice of one by its time."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.served import NAME


def test_models_and_their_names(client: OpenAI) -> None:
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
    for name, said in (
        ("pico:d7", "the sizes are d1, d2, d3"),
        ("pico:depth=9", "legal values"),
        ("pico:depth=1,depth=2", "depth is given twice"),
    ):
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
