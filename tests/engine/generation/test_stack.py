"""The stack computes what the stock model does, in whatever order its layers catch up."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch
import transformers
from torch import Tensor, nn

from sortednet_cli.engine.generation import Stack
from sortednet_cli.engine.generation.models import open_model
from sortednet_cli.errors import RequestError
from tests.engine.generation.models import DEPTH, KINDS, make, prompt


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def stock(model: nn.Module, tokens: list[int]) -> Tensor:
    logits: Tensor = model(input_ids=torch.tensor([tokens])).logits[0]
    return logits


def shallower(kind: str, depth: int) -> nn.Module:
    model = make(kind)
    if kind == "gpt2":
        model.transformer.h = model.transformer.h[:depth]
        return model
    model.model.layers = model.model.layers[:depth]
    model.config.num_hidden_layers = depth
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:depth]
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [2, 5, 20, 50])
def test_a_prompt_in_one_pass(kind: str, length: int) -> None:
    model, tokens = make(kind), prompt(length)
    stack = Stack(model, 64)
    stack.push(tokens)
    stack.advance(DEPTH)
    torch.testing.assert_close(stack.logits(length), stock(model, tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_of_any_size_give_what_one_pass_gives(kind: str) -> None:
    model, tokens = make(kind), prompt(60)
    wanted = stock(model, tokens)
    stack, chosen = Stack(model, 64), random.Random(3)
    while stack.length < len(tokens):
        count = min(chosen.choice([1, 2, 3, 8, 17]), len(tokens) - stack.length)
        stack.push(tokens[stack.length : stack.length + count])
        stack.advance(DEPTH)
        end = stack.length
        torch.testing.assert_close(
            stack.logits(count), wanted[end - count : end], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("kind", KINDS)
def test_layers_catch_up_on_what_they_left_out(kind: str) -> None:
    model, tokens = make(kind), prompt(60)
    wanted = {depth: stock(shallower(kind, depth), tokens) for depth in range(1, DEPTH + 1)}
    stack, chosen = Stack(model, 64), random.Random(4)
    for place, token in enumerate(tokens):
        stack.push([token])
        depth = chosen.choice([1, 1, 1, 2, 3, DEPTH])
        stack.advance(depth)
        assert stack.seen == sorted(stack.seen, reverse=True)
        torch.testing.assert_close(stack.logits(1)[0], wanted[depth][place], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_holds_what_the_stock_module_gives_each_position(kind: str) -> None:
    """Bit for bit, so that a position may be known to the device alone."""
    model = open_model(make(kind))
    for rotation in {layer.rotation for layer in model.layers}:
        table = model.rotations(rotation, 0, 128)
        assert len({row.view(-1).cpu().numpy().tobytes() for row in table}) == 128
        for place in range(128):
            alone = model.rotations(rotation, place, place + 1)
            assert torch.equal(table[place], alone[0])


def test_forgotten_positions_leave_no_trace() -> None:
    model, tokens = make("llama"), prompt(20)
    stack = Stack(model, 32)
    stack.push(tokens[:10])
    stack.advance(DEPTH)
    stack.push(prompt(6, seed=9))
    stack.advance(2)
    stack.truncate(10)
    assert stack.seen == [10] * DEPTH
    stack.push(tokens[10:])
    stack.advance(DEPTH)
    torch.testing.assert_close(stack.logits(10), stock(model, tokens)[10:], rtol=1e-4, atol=1e-4)


def test_more_left_out_than_the_ready_masks_have_rows() -> None:
    model, tokens = make("mistral"), prompt(70)
    stack = Stack(model, 80)
    stack.push(tokens[:3])
    stack.advance(DEPTH)
    for token in tokens[3:]:
        stack.push([token])
        stack.advance(1)
    stack.advance(DEPTH)
    torch.testing.assert_close(stack.logits(67), stock(model, tokens)[3:], rtol=1e-4, atol=1e-4)


def test_other_models_are_refused() -> None:
    small = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    helium = transformers.HeliumConfig(**small, num_attention_heads=4, head_dim=8)
    # It has the parts of LLaMA's layers, and pairs other features.
    bert = transformers.BertConfig(**small, num_attention_heads=4)
    others = (
        nn.Linear(2, 2),
        transformers.HeliumForCausalLM(helium),
        transformers.BertForMaskedLM(bert),
    )
    for other in others:
        with pytest.raises(RequestError, match=f"gemma3_text.*, not {type(other).__name__}: ext"):
            Stack(other, 4)
    with pytest.raises(RequestError, match="128 positions, not 200"):
        Stack(make("llama"), 200)
