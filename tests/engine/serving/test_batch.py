"""A batch computes what each of its sequences would have computed alone."""

from __future__ import annotations

import random
from collections.abc import Sequence as Listed
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sortednet_cli.engine.generation import Decoder, Greedy, Plain, Sampling, Stack
from sortednet_cli.engine.generation.text import TextStream
from sortednet_cli.engine.serving.batch import Batch, Sequence
from sortednet_cli.engine.serving.choice import SizeChooser
from sortednet_cli.engine.serving.jobs import Event, Finished, Job, Size
from sortednet_cli.engine.serving.metrics import Metrics
from sortednet_cli.engine.serving.reference import Reference
from sortednet_cli.engine.serving.texts import MARGIN, TextWork, TextWorker
from sortednet_cli.space import SubModel
from tests.engine.generation.models import KINDS, make, prompt

COUNT = 50
SUBMODEL = SubModel((("depth", 4),))


class _Network:
    """Stands for a nested network of one sub-model."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def at(self, submodel: SubModel) -> nn.Module:
        return self._module


class _Letters:
    """A tokenizer with a letter for each token."""

    def decode(self, tokens: Listed[int], skip_special_tokens: bool) -> str:
        return "".join(chr(ord("0") + token) for token in tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_a_batch_are_those_of_each_text_alone(kind: str) -> None:
    """Texts join and leave at any time; rows and columns move. Rounding stays within the margin."""
    model, drawn = make(kind), random.Random(kind)
    batch = Batch(model)
    texts = [prompt(1 + drawn.randrange(20), seed) for seed in range(6)]
    alone = [_logits(model, text) for text in texts]
    waiting = [Sequence(text, 5 + drawn.randrange(COUNT - 5), Greedy()) for text in texts]
    number = {sequence: index for index, sequence in enumerate(waiting)}
    worst = 0.0

    def take(sequence: Sequence, logits: Tensor) -> None:
        nonlocal worst
        expected = alone[number[sequence]][len(sequence.tokens)]
        difference = float((logits - expected).abs().max())
        worst = max(worst, difference / max(1.0, float(expected.max().abs())))
        sequence.tokens.append(int(expected.argmax()))

    while waiting or batch.sequences:
        if waiting and (not batch.sequences or drawn.random() < 0.3):
            sequence = waiting.pop()
            take(sequence, batch.admit(sequence))
        running = list(batch.sequences)
        for sequence, row in zip(running, batch.step(), strict=True):
            take(sequence, row)
        for sequence in running:
            if len(sequence.tokens) == sequence.wanted:
                batch.remove(sequence)
    assert 0 < worst < MARGIN / 4


def _logits(model: nn.Module, text: list[int]) -> list[Tensor]:
    """Logits of greedy tokens after a text, as plain decoding computes them."""
    stack = Stack(model, len(text) + COUNT)
    with torch.inference_mode():
        stack.push(text)
        stack.advance(stack.depth)
        found = [stack.logits(1)[0]]
        for _ in range(COUNT - 1):
            stack.push([int(found[-1].argmax())])
            stack.advance(stack.depth)
            found.append(stack.logits(1)[0])
    return found


def _served(
    model: nn.Module, texts: list[list[int]], choosers: list[Greedy], metrics: Metrics
) -> list[list[int]]:
    """Tokens that a worker generates after all texts at once."""
    network: Any = _Network(model)
    tokenizer: Any = _Letters()
    worker = TextWorker(network, SizeChooser("pico", [], None, "token"), (), metrics)
    sequences, ended = [], list[Event | None]()
    for text, chooser in zip(texts, choosers, strict=True):
        sequence = Sequence(text, COUNT, chooser)
        job = Job(Size(SUBMODEL), TextWork(sequence, TextStream(tokenizer)), lambda event: None)
        job.attach(lambda job, event: ended.append(event))
        worker.begin(job)
        worker.step()
        sequences.append(sequence)
    while len(ended) < len(texts):
        worker.step()
    assert ended == [Finished("length", COUNT)] * len(texts)
    return [sequence.tokens for sequence in sequences]


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3", "gpt2"])
def test_tokens_are_those_of_plain_decoding(kind: str) -> None:
    model, texts = make(kind), [prompt(3 + 4 * seed, seed) for seed in range(5)]
    decoder = Decoder(model)
    expected = [list(decoder.stream(text, Plain(), COUNT)) for text in texts]
    assert _served(model, texts, [Greedy() for _ in texts], Metrics()) == expected


def test_drawn_tokens_are_those_of_plain_decoding() -> None:
    model, texts = make("llama"), [prompt(3 + 4 * seed, seed) for seed in range(5)]
    decoder = Decoder(model)
    expected = [
        list(decoder.stream(text, Plain(), COUNT, chooser=Sampling(0.8, 0.9, seed)))
        for seed, text in enumerate(texts)
    ]
    choosers: list[Greedy] = [Sampling(0.8, 0.9, seed) for seed in range(len(texts))]
    assert _served(model, texts, choosers, Metrics()) == expected


def test_equal_logits_are_decided_as_plain_decoding_decides_them() -> None:
    """Two tokens have one row of the head: their logits differ by rounding at most."""
    model = make("llama")
    with torch.no_grad():
        model.lm_head.weight[1::2] = model.lm_head.weight[::2][:-1]
    texts, metrics = [prompt(4 + seed, seed) for seed in range(4)], Metrics()
    decoder = Decoder(model)
    expected = [list(decoder.stream(text, Plain(), COUNT)) for text in texts]
    assert _served(model, texts, [Greedy() for _ in texts], metrics) == expected
    (line,) = [line for line in metrics.text({}).splitlines() if line.startswith(RECOMPUTED)]
    assert int(line.split()[-1]) > COUNT


RECOMPUTED = "sortednet_recomputed_tokens_total{"


def test_the_reference_is_plain_decoding_whatever_came_before() -> None:
    model: Any = make("qwen2")
    network: Any = _Network(model)
    reference, texts = Reference(network), [prompt(5, 1), prompt(9, 2)]
    alone = [_logits(model, text) for text in texts]
    for count, index in ((0, 0), (3, 0), (2, 1), (5, 1), (4, 0), (2, 0), (40, 1), (45, 1)):
        tokens = [int(row.argmax()) for row in alone[index][:count]]
        found = reference.logits(SUBMODEL, texts[index], tokens)
        assert torch.equal(found, alone[index][count])


def test_the_reference_is_right_after_a_pass_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = make("llama")
    network: Any = _Network(model)
    reference, texts = Reference(network), [prompt(5, 1), prompt(9, 2)]
    expected = [_logits(model, text)[0] for text in texts]
    assert torch.equal(reference.logits(SUBMODEL, texts[0], []), expected[0])
    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="out of memory"):
        patched.setattr(Stack, "advance", _fail)
        reference.logits(SUBMODEL, texts[1], [])
    assert torch.equal(reference.logits(SUBMODEL, texts[0], []), expected[0])


def _fail(*_: object) -> None:
    raise RuntimeError("out of memory")


def test_a_cache_holds_what_is_there_and_not_what_may_come() -> None:
    batch, sequence = Batch(make("llama")), Sequence(prompt(60, 0), 60, Greedy())
    batch.admit(sequence)
    for length, columns in ((60, 64), (63, 64), (64, 128)):
        sequence.tokens = [1] * (length - 59)
        batch.step()
        assert batch._cache.columns == columns


def test_an_empty_batch_holds_no_cache() -> None:
    batch = Batch(make("llama"))
    sequences = [Sequence(prompt(4, seed), 9, Greedy()) for seed in range(3)]
    for sequence in sequences:
        batch.admit(sequence)
    assert batch._cache.columns == 64
    for sequence in sequences:
        batch.remove(sequence)
    assert batch._cache.columns == 0
    with pytest.raises(IndexError):
        batch._cache.of(0)
