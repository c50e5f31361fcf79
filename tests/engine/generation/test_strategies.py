"""Every strategy beside plain decoding: the same tokens, or the same distribution."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
import torch

from sortednet_cli.engine.generation import (
    Adaptive,
    Completion,
    Decoder,
    DecodingStats,
    EarlyExit,
    Fixed,
    Greedy,
    Plain,
    Sampling,
    Speculative,
    Strategy,
)
from sortednet_cli.engine.generation.automatic import Automatic
from sortednet_cli.engine.generation.choice import Draft
from sortednet_cli.engine.generation.history import History
from sortednet_cli.engine.generation.timings import MAX_ROWS, LayerTimings
from sortednet_cli.errors import RequestError
from tests.engine.generation.models import DEPTH, FUSED, KINDS, VOCAB, make, prompt

EXITS = (1, 2, 3)


def draft_of(token: int) -> Draft:
    return Draft(torch.tensor(token), torch.tensor(1.0))


def plain_tokens(decoder: Decoder, tokens: list[int], count: int) -> list[int]:
    return list(decoder.stream(tokens, Plain(), count))


@pytest.mark.parametrize("kind", KINDS)
def test_plain_decoding_is_the_stock_models(kind: str) -> None:
    model, tokens = make(kind), prompt(9)
    ids = torch.tensor([tokens])
    found = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False
    )
    assert plain_tokens(Decoder(model), tokens, 40) == found[0, 9:].tolist()


@pytest.mark.parametrize(
    ("kind", "depth", "length"),
    [
        *((kind, *how) for kind in KINDS for how in [(2, 3), (3, 12)]),
        *((kind, *how) for kind in FUSED for how in [(1, 1), (1, None)]),
        ("gemma3", 1, None),
    ],
)
def test_speculation_emits_the_tokens_of_plain_decoding(
    kind: str, depth: int, length: int | None
) -> None:
    decoder = Decoder(make(kind), EXITS)
    for seed in range(3):
        tokens, stats = prompt(5 + seed, seed), DecodingStats()
        strategy = decoder.speculative(depth, length)
        found = list(decoder.stream(tokens, strategy, 60, stats=stats))
        assert found == plain_tokens(decoder, tokens, 60)
        assert stats.accepted <= stats.checked <= stats.drafted
        assert stats.tokens == 60


@pytest.mark.parametrize("kind", ["llama", "biased", "qwen2", "mistral", "gemma3"])
@pytest.mark.parametrize("sampled", [False, True])
def test_drafts_over_frequent_tokens_change_no_text(kind: str, sampled: bool) -> None:
    model, plain = make(kind), Decoder(make(kind), EXITS)
    for seed in range(2):
        chooser = Sampling(1.2, 0.9, seed) if sampled else Greedy()
        wanted = list(plain.stream(prompt(6, seed), Plain(), 50, chooser=chooser))
        common = [token for token, _ in Counter(wanted).most_common(6)]
        decoder, stats = Decoder(model, EXITS, frequent=common), DecodingStats()
        for length in (3, None):
            strategy = decoder.speculative(3, length)
            again = Sampling(1.2, 0.9, seed) if sampled else Greedy()
            found = list(decoder.stream(prompt(6, seed), strategy, 50, chooser=again, stats=stats))
            assert found == wanted
        assert stats.accepted > 0


def test_drafts_are_the_best_of_the_frequent_tokens() -> None:
    decoder = Decoder(make("biased"), EXITS, frequent=[7, 3, 50])
    with torch.inference_mode():
        stack = decoder._empty_stack(8)
        stack.push(prompt(5))
        stack.advance(2)
        whole, cut = stack.logits(1)[0], stack.draft_logits()
    assert cut.isfinite().nonzero().flatten().tolist() == [3, 7, 50]
    torch.testing.assert_close(cut[[3, 7, 50]], whole[[3, 7, 50]], rtol=1e-5, atol=1e-5)
    assert decoder.timings.draft_head > 0


def test_automatic_speculation_emits_them_too_and_settles() -> None:
    decoder = Decoder(make("llama"), EXITS)
    strategy = decoder.speculative()
    for seed in range(4):
        tokens = prompt(8, seed)
        assert list(decoder.stream(tokens, strategy, 80)) == plain_tokens(decoder, tokens, 80)
    assert isinstance(strategy, Automatic)
    assert strategy.depth in (*EXITS, None)


@pytest.mark.parametrize("agree", [True, False])
def test_automatic_speculation_drafts_only_where_that_pays(
    agree: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By layers that take a millisecond each, whatever the number of rows, and no look-up."""
    monkeypatch.setattr(History, "look_up", lambda history: None)
    model = make("llama", seed=3)
    if agree:  # layers that change nothing, so that every exit says what the last one does
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.data.zero_()
            layer.mlp.down_proj.weight.data.zero_()
        model.lm_head.weight.data *= 50  # and says it with confidence
    decoder = Decoder(model, EXITS)
    times = (0.0, *[1e-3] * MAX_ROWS)
    decoder._timings = LayerTimings(times, (0.0, *[1e-4] * MAX_ROWS), 1e-4)
    strategy = decoder.speculative()
    assert isinstance(strategy, Automatic)
    with caplog.at_level(logging.INFO, "sortednet"):
        for seed in range(3):
            tokens = prompt(8, seed)
            assert list(decoder.stream(tokens, strategy, 60)) == plain_tokens(decoder, tokens, 60)
    assert strategy.depth == (1 if agree else None)
    assert ("no exit pays as a draft" in caplog.text) == (not agree)


def test_a_stock_checkpoint_s_many_exits_are_spread() -> None:
    timings = LayerTimings((0.0, 1e-3), (0.0, 1e-3), 1e-3)
    tried = list(Automatic(timings, range(1, 30), 30)._lengths)
    assert tried == [5, 10, 15, 20, 25]
    assert list(Automatic(timings, [1, 2, 3], 4)._lengths) == [1, 2, 3]


def test_equal_logits_are_computed_alone() -> None:
    """With all logits equal every place is a tie: speculation must still be plain decoding."""
    model = make("llama")
    model.lm_head.weight.data.zero_()
    decoder, stats = Decoder(model, EXITS), DecodingStats()
    strategy = decoder.speculative(1, 3)
    assert list(decoder.stream(prompt(4), strategy, 6, stats=stats)) == [0] * 6
    assert stats.recomputed == stats.replayed > 0


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_a_threshold_that_none_passes_is_plain_decoding(kind: str) -> None:
    decoder, tokens = Decoder(make(kind), EXITS), prompt(7)
    never = EarlyExit(dict.fromkeys(EXITS, 1.1))
    assert list(decoder.stream(tokens, never, 30)) == plain_tokens(decoder, tokens, 30)


def test_a_threshold_that_all_pass_is_the_shallow_model() -> None:
    model, tokens, stats = make("llama"), prompt(7), DecodingStats()
    decoder = Decoder(model, EXITS)
    found = list(decoder.stream(tokens, EarlyExit({2: 0.0}), 30, stats=stats))
    assert stats.exits == {2: 29}  # the first token comes from the prompt's own pass
    shallow = make("llama")
    shallow.model.layers = shallow.model.layers[:2]
    shallow.config.num_hidden_layers = 2
    given = [*tokens, found[0]]
    assert found[1:] == plain_tokens(Decoder(shallow), given, 29)


def test_speculative_sampling_keeps_the_models_distribution() -> None:
    """Chi-squared of pairs of tokens against plain sampling's exact probabilities."""
    model = make("llama", seed=5)
    model.lm_head.weight.data *= 4  # a few tokens have most of the probability
    decoder, tokens, count = Decoder(model, EXITS), prompt(6), 1500
    chooser = Sampling(temperature=1.5, top_p=0.9)
    found: Counter[tuple[int, ...]] = Counter()
    for seed in range(count):
        own = Sampling(temperature=1.5, top_p=0.9, seed=seed)
        strategy = Speculative(1, Fixed(2))
        found[tuple(decoder.stream(tokens, strategy, 3, chooser=own))[1:]] += 1
    expected = _pairs(model, tokens, chooser)
    assert set(found) <= set(expected)
    statistic, cells, rest = 0.0, 0, 0.0
    seen_rest = 0
    for pair, share in expected.items():
        if share * count < 5:
            rest, seen_rest = rest + share * count, seen_rest + found[pair]
            continue
        statistic += (found[pair] - share * count) ** 2 / (share * count)
        cells += 1
    statistic += (seen_rest - rest) ** 2 / rest
    # The 99.9% quantile of chi-squared with k degrees of freedom (Wilson and Hilferty).
    k = cells
    assert statistic < k * (1 - 2 / (9 * k) + 3.09 * (2 / (9 * k)) ** 0.5) ** 3
    wrong = {pair: 1 / len(expected) for pair in expected}
    assert sum((found[p] - s * count) ** 2 / (s * count) for p, s in wrong.items()) > 3 * statistic


def _pairs(
    model: torch.nn.Module, tokens: list[int], chooser: Sampling
) -> dict[tuple[int, int], float]:
    """The probabilities of the second and third token after a prompt."""

    def shares(batch: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return chooser.probabilities(model(input_ids=batch).logits[:, -1]).double()

    found: Counter[tuple[int, int]] = Counter()
    start = torch.tensor([tokens])
    first = shares(start)[0]
    for a in first.nonzero().flatten():
        second = shares(torch.cat([start, a.view(1, 1)], 1))[0]
        alive = second.nonzero().flatten()
        batch = torch.cat([start.repeat(len(alive), 1), a.repeat(len(alive), 1), alive[:, None]], 1)
        for b, third in zip(alive.tolist(), shares(batch), strict=True):
            for c in third.nonzero().flatten().tolist():
                found[b, c] += float(first[a] * second[b] * third[c])
    return dict(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 4, None])
def test_speculation_draws_the_tokens_of_plain_decoding(kind: str, length: int | None) -> None:
    """Of a seed, whatever drafts; another seed draws others."""
    decoder = Decoder(make(kind), EXITS)

    def drawn(strategy: Strategy, seed: int) -> list[int]:
        chooser = Sampling(temperature=0.8, top_p=0.95, seed=seed)
        return list(decoder.stream(prompt(6), strategy, 50, chooser=chooser))

    for seed in range(2):
        plain = drawn(Plain(), seed)
        for depth in EXITS:
            assert drawn(decoder.speculative(depth, length), seed) == plain
    assert drawn(Plain(), 0) != drawn(Plain(), 1)


def test_a_draft_from_the_same_logits_always_stands() -> None:
    chooser, logits = Sampling(seed=1), torch.randn(2, VOCAB)
    for place in range(50):
        assert chooser.verify([chooser.draft(logits[0], place)], logits, place).accepted == 1


def test_a_draft_that_the_model_rules_out_never_stands() -> None:
    logits = torch.zeros(2, VOCAB)
    logits[0, 3] = -torch.inf
    for place in range(50):
        verdict = Sampling().verify([draft_of(3)], logits, place)
        assert verdict.accepted == 0
        assert verdict.token != 3


def test_end_length_and_context_end_a_text() -> None:
    model, tokens = make("llama", context=32), prompt(10)
    free = plain_tokens(Decoder(model, EXITS), tokens, 15)
    end = free[4]
    for strategy in (Plain(), Speculative(1, Fixed(4)), EarlyExit({1: 1.1})):
        done = Completion()
        found = list(Decoder(model, EXITS, [end]).stream(tokens, strategy, 15, completion=done))
        assert found == done.tokens == free[: free.index(end)]
        assert done.finish == "end"
        done = Completion()
        assert len(list(Decoder(model).stream(tokens, strategy, 3, completion=done))) == 3
        assert done.finish == "length"
        done = Completion()
        assert len(list(Decoder(model).stream(tokens, strategy, 99, completion=done))) == 22
        assert done.finish == "context"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_reports_what_it_recomputed(dtype: torch.dtype) -> None:
    model = make("llama")
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    decoder, stats = Decoder(model, EXITS), DecodingStats()
    found = list(decoder.stream(prompt(6), decoder.speculative(2, 3), 40, stats=stats))
    assert len(found) == 40
    assert stats.recomputed > 0 or dtype == torch.float16
    assert stats.changed <= stats.recomputed


def test_what_cannot_draft_is_refused() -> None:
    decoder = Decoder(make("llama"), EXITS)
    with pytest.raises(
        RequestError, match="draft depth 4 was not trained; the trained depths below 4 are 1, 2"
    ):
        decoder.speculative(DEPTH)
    with pytest.raises(RequestError, match="no layers can draft"):
        Decoder(make("llama")).speculative(1)
    with pytest.raises(RequestError, match="129 tokens, 2 more than the 127"):
        next(decoder.stream(prompt(129), Plain(), 1))
    with pytest.raises(RequestError, match="the prompt is empty"):
        next(decoder.stream([], Plain(), 1))
    with pytest.raises(RequestError, match="at least 1, not 0"):
        next(decoder.stream([1], Plain(), 0))


def test_adaptive_drafts_more_where_drafts_stand() -> None:
    decoder = Decoder(make("llama"), EXITS)
    good, bad = (Adaptive(decoder.timings, 1, DEPTH) for _ in range(2))
    for _ in range(200):
        good.observe(0.9, True)
        bad.observe(0.9, False)
    for length in (good, bad):
        length.begin()
    assert good.acceptance.probability(0.9) > 0.95
    assert bad.acceptance.probability(0.9) < 0.05
    assert not bad.keep(0, 0.9)


def test_greedy_is_unsure_of_what_rounding_could_swap() -> None:
    logits = torch.zeros(2, VOCAB)
    logits[:, 5], logits[0, 6], logits[1, 6] = 10.0, 9.0, 10.0 - 1e-5
    verdict = Greedy().verify([draft_of(5)], logits, 0)
    assert (verdict.accepted, verdict.token, verdict.sure) == (1, 5, False)
    assert Greedy().settle(logits[1], 0) == (5, True)
    assert Greedy().settle(logits[0], 0) == (5, False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_recorded_drafts_change_no_token_on_a_gpu(kind: str) -> None:
    """Nor a prompt that another one came before."""
    decoder = Decoder(make(kind).to("cuda"), EXITS, cuda_graphs=True)
    for seed in range(3):
        tokens = prompt(5 + seed, seed)
        wanted = plain_tokens(decoder, tokens, 60)
        for depth, length in ((1, 1), (2, 3), (3, 12)):
            strategy = decoder.speculative(depth, length)
            assert list(decoder.stream(tokens, strategy, 60)) == wanted
