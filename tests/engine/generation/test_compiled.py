"""Compiled passes: the same tokens in every mode, and one compilation for a text of any length."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.utils import counters

from sortednet_cli.engine.generation import Decoder, EarlyExit, Plain, compiled
from sortednet_cli.errors import RequestError
from tests.engine.generation.models import FUSED, logits_one_by_one, make, prompt

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own parts

EXITS = (1, 2, 3)


@pytest.mark.parametrize("kind", FUSED)
@pytest.mark.usefixtures("traced")
def test_compiled_passes_write_the_same_text(kind: str) -> None:
    model = make(kind)
    plain, fast = Decoder(model, EXITS), Decoder(model, EXITS, compiles=True)
    for seed in range(2):
        tokens = prompt(5 + seed, seed)
        wanted = list(plain.stream(tokens, Plain(), 60))
        assert list(fast.stream(tokens, Plain(), 60)) == wanted
        assert list(fast.stream(tokens, fast.speculative(2, 4), 60)) == wanted
        assert list(fast.stream(tokens, EarlyExit({1: 2.0}), 60)) == wanted


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.usefixtures("traced")
def test_nothing_is_compiled_once_a_text_begins(
    half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drafts of every depth, texts that outgrow their cache, and others after them."""
    monkeypatch.setattr(compiled, "_GROUP", 3)
    model = make("llama")
    decoder = Decoder(model.bfloat16() if half else model, EXITS, compiles=True)
    before = counters["stats"]["unique_graphs"]
    assert before == 2 + half  # three layers, and one; the head
    for length in (80, 5):
        for depth in (*EXITS, None):
            list(decoder.stream(prompt(9), decoder.speculative(depth), length))
        list(decoder.stream(prompt(9), Plain(), length))
        list(decoder.stream(prompt(9), EarlyExit({1: 0.1, 2: 0.1}), length))
    assert counters["stats"]["unique_graphs"] == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_machine_code_gives_the_logits_of_the_stock_module(dtype: torch.dtype) -> None:
    """With the real compiler; each position of a text by itself.

    Inputs of half weights are rounded at the first position alone, which is not compiled and which
    the last one does not see.
    """
    model = make("mistral")
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    tokens = prompt(24)
    stack = Decoder(model, compiles=True)._empty_stack(24)
    with torch.inference_mode():
        found = logits_one_by_one(stack, tokens)
        wanted = model.float()(torch.tensor([tokens])).logits[0]
    errors = (found - wanted).abs().amax(1) / wanted.abs().max()
    assert errors.max() < (1e-5 if dtype == torch.float32 else 8 * torch.finfo(dtype).eps)
    assert errors[-1] < 1e-5


def test_other_architectures_are_refused() -> None:
    with pytest.raises(RequestError, match=r"--compile is for LlamaForCausalLM, .* on a CPU"):
        Decoder(make("gpt2"), compiles=True)
