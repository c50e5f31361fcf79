"""Decoding that is replayed as graphs, on the simulated GPU, against passes as they are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sortednet_cli.engine.generation import (
    Decoder,
    DecodingStats,
    EarlyExit,
    Fixed,
    Greedy,
    History,
    Plain,
    Speculative,
    Stack,
    Strategy,
    stack,
)
from sortednet_cli.errors import RequestError
from sortednet_cli.machine.cuda_graphs import CudaRecorder
from sortednet_cli.machine.graphs import WARMUPS, NotRecordable
from tests.cuda.gpu import SimulatedGpu, simulated_gpu
from tests.engine.generation.models import DEPTH, KINDS, make, prompt

GPU = torch.device("cuda:0")
EXITS = (1, 2, 3)
WAYS: dict[str, Callable[[Decoder], Strategy]] = {
    "plain": lambda decoder: Plain(),
    "fixed drafts": lambda decoder: decoder.speculative(2, 3),
    "early exit": lambda decoder: EarlyExit({1: 0.2, 2: 0.3}),
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "original_max_position_embeddings": 24,
    "factor": 4.0,
    "short_factor": [1.0] * 4,
    "long_factor": [2.0, 3.0, 4.0, 5.0],
}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedGpu]:
    monkeypatch.setattr(stack, "_COLUMNS", 16)  # so that short texts pass its multiples
    with simulated_gpu() as entered:
        yield entered


def of_transformers(model: Any, tokens: list[int], count: int) -> list[int]:
    ids = torch.tensor([tokens])
    options = {"attention_mask": torch.ones_like(ids), "do_sample": False}
    found: list[int] = model.generate(ids, max_new_tokens=count, **options)[0].tolist()
    return found[len(tokens) :]


def refuse(*_: object) -> None:
    raise NotRecordable("it must not be")


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_tokens_are_those_of_transformers(kind: str, gpu: SimulatedGpu) -> None:
    """By every way: greedy ones of the stock model, or those of passes as they are."""
    model, placed, tokens, count = make(kind), make(kind).to(GPU), prompt(9), 26
    wanted = of_transformers(model, tokens, count)
    recorded, plain = (Decoder(placed, EXITS, cuda_graphs=choice) for choice in (True, False))
    for name, way in WAYS.items():
        before = gpu.replays
        found = list(recorded.stream(tokens, way(recorded), count))
        assert gpu.replays > before + 10, name
        if name == "early exit":
            before = gpu.replays
            assert found == list(plain.stream(tokens, way(plain), count))
            assert gpu.replays == before
        else:
            assert found == wanted, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["grouped", "mistral", "gemma3"])
def test_a_replay_computes_what_the_pass_does(
    kind: str, dtype: torch.dtype, gpu: SimulatedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit: of one position or more, by all layers or some, in any order."""
    model = make(kind).to(GPU)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)

    def logits() -> list[Tensor]:
        stack, found = Stack(model, 128, frequent=[3, 50, 7]), list[Tensor]()
        stack.push(prompt(7))
        stack.advance(DEPTH)
        for round_ in range(12):
            start = stack.length
            for depth in (1, 1, DEPTH):
                stack.push([(start + depth) % 50])
                stack.advance(depth)
                found += [stack.logits(1), stack.draft_logits()]
            found.append(stack.logits(3))
            stack.truncate(start + 1 + round_ % 3)
        return found

    with torch.inference_mode():
        replayed = logits()
        count = gpu.replays
        assert count > 30
        monkeypatch.setattr(CudaRecorder, "record", refuse)
        assert all(torch.equal(a, b) for a, b in zip(replayed, logits(), strict=True))
    assert gpu.replays == count


@pytest.mark.parametrize("records", ["both", "plain", "drafts"])
def test_speculation_is_plain_decoding_where_every_place_is_a_tie(
    records: str, gpu: SimulatedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is computed again one by one; so too if one of two decoders records nothing."""
    model = make("grouped").to(GPU)
    weight = model.lm_head.weight.data
    weight.copy_(weight[0] + 1e-6 * weight)
    stats, found = DecodingStats(), []
    for name, strategy in (("plain", Plain()), ("drafts", Speculative(1, Fixed(3)))):
        with monkeypatch.context() as patched:
            if records not in (name, "both"):
                patched.setattr(CudaRecorder, "record", refuse)
            found.append(list(Decoder(model, EXITS).stream(prompt(4), strategy, 24, stats=stats)))
    assert found[0] == found[1]
    assert stats.replayed > 0
    assert len(set(found[0])) > 2


def test_a_longer_text_has_a_longer_cache_and_recordings_of_its_own(gpu: SimulatedGpu) -> None:
    model = make("grouped", context=256)
    decoder = Decoder(make("grouped", context=256).to(GPU))
    for length, count in ((5, 12), (90, 20), (5, 12), (200, 56)):
        before = gpu.replays
        found = list(decoder.stream(prompt(length), Plain(), count))
        assert found == of_transformers(model, prompt(length), count)
        assert gpu.replays >= before + 2 * (count - 1) - 2 * WARMUPS * (2 + count // 16)


def test_a_recording_serves_prompts_with_the_same_frequencies(gpu: SimulatedGpu) -> None:
    """LongRoPE has others for long prompts, in a table of their own."""
    decoders = []
    for device in ("cpu", "cuda"):
        model = make("llama")
        model.config.rope_parameters = LONGROPE
        model.model.rotary_emb = type(model.model.rotary_emb)(model.config)
        decoders.append(Decoder(model.to(device)))
    for length in (9, 30, 9, 30):
        found = [list(decoder.stream(prompt(length), Plain(), 20)) for decoder in decoders]
        assert found[0] == found[1]
    assert gpu.replays > 60


class _Looking(nn.Module):
    """An activation that asks the host."""

    def forward(self, states: Tensor) -> Tensor:
        return states.tanh() if bool(states.max() > 0) else states.sin()


def test_a_model_that_cannot_be_recorded_decodes_as_it_is(
    gpu: SimulatedGpu, caplog: pytest.LogCaptureFixture
) -> None:
    for kind in ("llama", "olmo2"):
        models = [make(kind), make(kind).to(GPU)]
        for model in models:
            for layer in model.model.layers:
                layer.mlp.act_fn = _Looking()
        caplog.clear()
        before = gpu.replays
        with caplog.at_level(logging.DEBUG):
            found = list(Decoder(models[1]).stream(prompt(5), Plain(), 12))
        assert found == of_transformers(models[0], prompt(5), 12)
        assert gpu.replays <= before + 1  # of a head, which asks nothing
        assert "without CUDA graphs" in caplog.text and "waits for the device" in caplog.text
        required = Decoder(models[1], cuda_graphs=True)
        with pytest.raises(RequestError, match="--cuda-graphs true: a pass cannot be recorded"):
            list(required.stream(prompt(5), Plain(), 12))


def launches(gpu: SimulatedGpu, work: Callable[[], object]) -> int:
    before = gpu.launches.total()
    work()
    return gpu.launches.total() - before


@pytest.mark.parametrize(("choice", "token", "drafts"), [(True, 8, 37), (False, 90, 200)])
def test_launches_of_a_token_and_of_a_round(
    choice: bool, token: int, drafts: int, gpu: SimulatedGpu
) -> None:
    """At most, or without graphs at least; what chooses tokens and copies inputs counts too."""

    def right(found: int, wanted: int) -> bool:
        return found <= wanted if choice else found >= wanted

    decoder = Decoder(make("grouped").to(GPU), EXITS, cuda_graphs=choice)

    def decode(count: int) -> Callable[[], object]:
        return lambda: list(decoder.stream(prompt(2), Plain(), count))

    decode(12)()
    assert right(launches(gpu, decode(12)) - launches(gpu, decode(11)), token)
    with torch.inference_mode():
        stack, way = Stack(decoder._model, 16, choice), Speculative(1, Fixed(3))
        stack.push(prompt(4))
        stack.advance(DEPTH)

        def round_() -> None:
            stack.truncate(4)
            way.round(stack, History([*prompt(4), 1], 9), Greedy(), DecodingStats())

        for _ in range(WARMUPS + 1):
            round_()
        assert right(launches(gpu, round_), drafts)


@pytest.mark.parametrize("context", [24, 256])
@pytest.mark.parametrize("kind", KINDS)
def test_drafts_that_adapt_to_times(kind: str, context: int, gpu: SimulatedGpu) -> None:
    """Layers and heads are timed on the GPU first, as recorded passes, where there is room."""
    model, placed = (make(kind, context=context) for _ in range(2))
    decoder = Decoder(placed.to(GPU), EXITS)
    wanted = of_transformers(model, prompt(9), 14)
    assert decoder.timings.step(DEPTH) > 0
    for depth in (1, None, 0):
        assert list(decoder.stream(prompt(9), decoder.speculative(depth), 14)) == wanted
