"""Compiled passes: the same tokens in every mode, and one compilation for a text of any length."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.utils import counters

from sortednet_cli.engine.generation import Decoder, EarlyExit, Plain
from sortednet_cli.engine.generation.compiled import _GROUP
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


@pytest.mark.usefixtures("traced")
def test_layers_and_lengths_share_a_compilation() -> None:
    """A text that outgrows its cache, and another after it."""
    model = make("llama")
    decoder = Decoder(model, compiles=True)
    for length in (80, 5):
        list(decoder.stream(prompt(9), Plain(), length))
    kinds = {min(_GROUP, decoder.depth - start) for start in range(0, decoder.depth, _GROUP)}
    assert counters["stats"]["unique_graphs"] == len(kinds)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_machine_code_gives_the_logits_of_the_stock_module(dtype: torch.dtype) -> None:
    """With the real compiler; each position of a text by itself."""
    model = make("mistral")
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    tokens = prompt(24)
    stack = Decoder(model, compiles=True)._empty_stack(24)
    with torch.inference_mode():
        found = logits_one_by_one(stack, tokens)
        wanted = model.float()(torch.tensor([tokens])).logits[0]
    error = (found - wanted).abs().max() / wanted.abs().max()
    assert error < (1e-5 if dtype == torch.float32 else 8 * torch.finfo(dtype).eps)


def test_other_architectures_are_refused() -> None:
    with pytest.raises(RequestError, match=r"--compile is for LlamaForCausalLM, .* on a CPU"):
        Decoder(make("gpt2"), compiles=True)
