"""Products with weights laid out for few rows, and the memory that they take."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch.nn import functional as F

from sortednet_cli.engine.generation import Decoder, Plain, products
from sortednet_cli.engine.generation.product_ways import WAYS, Way, Ways
from sortednet_cli.engine.generation.products import Product
from sortednet_cli.engine.generation.stack import Stack
from tests.engine.generation.models import FUSED, logits_one_by_one, make, prompt

EXITS = (1, 2, 3)


PACKED = Ways(alone=("left",), beside=("left", "left", "left", "packed"))
"""Weights on the left, and packed copies from three rows on."""


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let decoders pack weights of any size, on any processor."""
    monkeypatch.setattr(products, "_LARGE", 0)
    monkeypatch.setattr(products, "_LEAST_OUTPUTS", 2)
    monkeypatch.setattr(products, "has_avx512", lambda: True)
    monkeypatch.setattr(products, "_measured", {})
    monkeypatch.setattr(products, "_measure", lambda layers, most: PACKED)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("packs")
def test_every_way_and_number_of_rows_gives_the_linear_layer(
    dtype: torch.dtype, biased: bool, way: Way
) -> None:
    torch.manual_seed(0)
    weight = torch.randn(24, 37, dtype=dtype)
    bias = torch.randn(24, dtype=dtype) if biased else None
    product = Product(weight, bias)
    product.ways = Ways(alone=("right",), beside=(way,))
    product = product.with_copy()
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-5
    for rows in (1, 2, 3, 4, 5, 7, 16, 33, 70):
        inputs, states = torch.randn(rows, 37, dtype=dtype), torch.randn(rows, 24, dtype=dtype)
        wanted = F.linear(inputs, weight, bias)
        torch.testing.assert_close(product(inputs), wanted, rtol=tolerance, atol=5 * tolerance)
        found = product.add_to(states, inputs)
        torch.testing.assert_close(found, states + wanted, rtol=tolerance, atol=5 * tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 1.6e-2)])
@pytest.mark.parametrize("avx512", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("beside", [False, True])
def test_float32_inputs_of_a_weight_of_half_the_size(
    dtype: torch.dtype,
    tolerance: float,
    avx512: bool,
    biased: bool,
    beside: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are rounded once, as is the result: within two units of the weight's precision."""
    monkeypatch.setattr(products, "_LARGE", 0)
    monkeypatch.setattr(products, "_WIDE_PART", 5 * 37)  # several parts
    monkeypatch.setattr(products, "has_avx512", lambda: avx512)
    torch.manual_seed(0)
    weight = torch.randn(23, 37).to(dtype)
    bias = torch.randn(23).to(dtype) if biased else None
    product = Product(weight, bias).with_copy() if beside else Product(weight, bias, pack=True)
    for rows in (1, 2, 3, 4, 5, 16, 70):
        inputs, states = torch.randn(rows, 37), torch.randn(rows, 23)
        exact = F.linear(inputs, weight.float(), None if bias is None else bias.float())
        scale = float((inputs.abs() @ weight.float().abs().t()).max())
        found = product(inputs)
        assert found.dtype == torch.float32
        assert float((found - exact).abs().max()) < tolerance * scale
        assert torch.equal(product.add_to(states, inputs), states + found)


@pytest.mark.parametrize(
    ("outputs", "part"), [(49152, 48), (960, 48), (576, 48), (128, 32), (63, 21), (22, 0)]
)
def test_outputs_divide_into_equal_parts_of_some_dozens(outputs: int, part: int) -> None:
    assert products._part_of(outputs) == part


def test_inputs_that_float16_cannot_hold_stay_finite() -> None:
    product = Product(torch.full((2, 4), 0.5, dtype=torch.float16), None, pack=True)
    inputs = torch.tensor([[1e6, 1.0, 1.0, -1e6]])
    assert product(inputs).isfinite().all()


@pytest.mark.parametrize("kind", FUSED)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_of_the_size_decodes_close_to_float32(kind: str, dtype: torch.dtype) -> None:
    """Logits of each position of a text, against those of the same rounded weights in float32."""
    model = make(kind)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    tokens = prompt(12)
    with torch.inference_mode():
        stack = Stack(model, 16)
        found = logits_one_by_one(stack, tokens)
        wanted = model.float()(torch.tensor([tokens])).logits[0]
    error = (found - wanted).abs().max() / wanted.abs().max()
    assert error < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("kind", FUSED)
@pytest.mark.usefixtures("packs")
def test_packed_weights_change_no_token(kind: str) -> None:
    model = make(kind)
    decoder = Decoder(model, EXITS)
    for seed in range(3):
        tokens = prompt(5 + seed, seed)
        ids = torch.tensor([tokens])
        stock = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False
        )[0, len(tokens) :].tolist()
        assert list(decoder.stream(tokens, Plain(), 40)) == stock
        assert list(decoder.stream(tokens, decoder.speculative(2, 4), 40)) == stock


@pytest.mark.parametrize("kind", FUSED)
@pytest.mark.usefixtures("packs")
def test_checks_change_no_bit_of_prompts_and_single_positions(kind: str) -> None:
    """Else a text that is computed again would not be that of plain decoding."""
    stack = Stack(make(kind), 32)

    def run(*sizes: int) -> torch.Tensor:
        stack.truncate(0)
        for size in sizes:
            stack.push(prompt(size))
            stack.advance(stack.depth)
        return stack.logits(1)

    with torch.inference_mode():
        before = run(7, 1, 1)
        assert all(layer._several is None for layer in stack.layers)
        run(7, 4)
        assert all(layer._several is not None for layer in stack.layers)
        assert torch.equal(run(7, 1, 1), before)


@pytest.mark.parametrize(
    ("capability", "limit", "packs"),
    [
        ("AVX512", None, True),
        ("AVX512", "avx512_core_bf16", True),
        ("AVX512", "AVX2", False),
        ("AVX2", None, False),
    ],
)
def test_bfloat16_is_packed_only_where_the_processor_multiplies_it(
    capability: str, limit: str | None, packs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if limit is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    monkeypatch.setattr(products, "_LARGE", 4)
    assert products._fits_blocks(torch.ones(2, 2, dtype=torch.bfloat16)) == packs
    assert not products._fits_blocks(torch.ones(1, 3, dtype=torch.bfloat16))


def test_a_decoder_keeps_one_copy_of_the_weights() -> None:
    model = make("llama")
    gone = [weakref.ref(layer.mlp.gate_proj.weight) for layer in model.model.layers]
    decoder = Decoder(model, EXITS)
    layers = decoder._stack.layers
    del model
    gc.collect()
    assert not any(weight() is not None for weight in gone)
    list(decoder.stream(prompt(9), Plain(), 80))  # longer than the first cache
    assert decoder._stack.capacity > 1
    assert decoder._stack.layers is layers
