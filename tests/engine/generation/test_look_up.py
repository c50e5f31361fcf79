"""Prompt look-up: what it copies, that it changes no token, and when it is dropped."""

from __future__ import annotations

import pytest
import torch

from sortednet_cli.engine.generation import (
    Adaptive,
    Completion,
    Decoder,
    DecodingStats,
    Fixed,
    Greedy,
    LookUp,
    Plain,
    Sampling,
)
from sortednet_cli.engine.generation.history import History
from sortednet_cli.engine.generation.timings import MAX_ROWS, LayerTimings
from sortednet_cli.errors import RequestError
from sortednet_cli.storage.phrases import LONGEST, Continuations, Phrases
from tests.engine.generation.models import DEPTH, KINDS, make, prompt

FREE = LayerTimings((0.0, *[1e-3] * MAX_ROWS), (0.0, *[1e-4] * MAX_ROWS), 1e-4)
"""Of a device on which more rows take no more time."""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ([7], None),
        ([1, 2, 3], None),
        ([5, 5], (1, 1)),
        ([1, 2, 9, 1, 2, 8, 1, 2], (2, 5)),  # the last of two occurrences
        ([4, 1, 2, 9, 3, 1, 2, 8, 4, 1, 2], (3, 3)),  # the longest n-gram before the last one
        ([1, 2, 3, 4, 6, 1, 2, 3, 4], (4, 4)),
        ([*range(10), 99, *range(10)], (8, 10)),
    ],
)
def test_the_longest_n_gram_is_looked_up(text: list[int], found: tuple[int, int] | None) -> None:
    assert History(text, 9).look_up() == found
    grown = History(text[:1], 9)
    grown.extend(text[1:])
    assert grown.look_up() == found


def test_a_copy_goes_on_with_itself() -> None:
    history = History([3, 1, 2, 1, 2], 9)
    assert history.look_up() == (2, 3)
    assert [history.copied(3, number) for number in range(5)] == [1, 2, 1, 2, 1]


def test_drafts_leave_room_for_the_token_of_the_check() -> None:
    look_up = LookUp(Fixed(8))
    assert len(look_up.drafts(History([1, 1], 20))) == 8
    assert len(look_up.drafts(History([1, 1], 4))) == 3
    assert look_up.drafts(History([1, 1], 1)) == []
    assert look_up.drafts(History([1, 2], 20)) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampled", [False, True])
def test_look_up_changes_no_token(kind: str, sampled: bool) -> None:
    """Drafts that stand, and in a drawn text drafts that do not."""
    decoder = Decoder(make(kind))
    decoder._timings = FREE
    stats = DecodingStats()
    for length in (1, 6, 40, None):
        choosers = [Sampling(0.8, 0.95, 3) if sampled else Greedy() for _ in range(2)]
        wanted = list(decoder.stream(prompt(5) * 2, Plain(), 40, chooser=choosers[0]))
        strategy = decoder.speculative(0, length)
        found = decoder.stream(prompt(5) * 2, strategy, 40, chooser=choosers[1], stats=stats)
        assert list(found) == wanted
    assert stats.accepted < stats.checked <= stats.drafted if sampled else stats.accepted > 0
    assert 0 < stats.rounds["look-up"] <= stats.passes == stats.rounds.total()
    assert set(stats.rounds) <= {"look-up", "none"}


@pytest.mark.parametrize("length", [4, 30, None])
def test_end_length_and_context_end_a_text(length: int | None) -> None:
    model, tokens = make("llama", context=32), prompt(5) * 2
    free = list(Decoder(model).stream(tokens, Plain(), 22))
    for count, end, finish in ((22, free[7], "end"), (3, -1, "length"), (99, -1, "context")):
        decoder, done = Decoder(model, end=[end]), Completion()
        found = list(decoder.stream(tokens, decoder.speculative(0, length), count, completion=done))
        wanted = free[: free.index(end)] if end in free else free[:count]
        assert found == done.tokens == wanted
        assert done.finish == finish


def test_equal_logits_are_computed_alone() -> None:
    model, stats = make("llama"), DecodingStats()
    model.lm_head.weight.data.zero_()
    decoder = Decoder(model)
    found = decoder.stream(prompt(4), decoder.speculative(0, 3), 6, stats=stats)
    assert list(found) == [0] * 6
    assert stats.recomputed == stats.replayed > 0


def test_statistics_count_what_was_copied() -> None:
    """A model that repeats its last token: all drafts of it stand."""
    model, stats = make("llama"), DecodingStats()
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
        layer.mlp.down_proj.weight.data.zero_()
    model.model.norm.weight.data.fill_(1.0)
    rows = torch.nn.functional.normalize(model.model.embed_tokens.weight.data, dim=1)
    model.model.embed_tokens.weight.data = rows
    model.lm_head.weight.data = rows.clone()
    decoder = Decoder(model)
    assert list(decoder.stream([5], decoder.speculative(0, 4), 11, stats=stats)) == [5] * 11
    # The first token is the prompt's own; two rounds of four drafts and a token make the rest.
    assert (stats.drafted, stats.checked, stats.accepted, stats.passes) == (8, 8, 8, 2)
    record = stats.record()
    assert record["rounds"] == {"look-up": 2}
    assert record["acceptance"] == 1.0


def test_drafts_that_fail_are_dropped_and_taken_up_again() -> None:
    """What is not drafted is still compared, since that costs nothing."""
    costly = LayerTimings(
        (0.0, *[row * 1e-3 for row in range(1, MAX_ROWS + 1)]), (0.0, *[1e-4] * MAX_ROWS), 1e-4
    )
    cheap = LayerTimings(
        (0.0, *[1e-3 + row * 1e-4 for row in range(MAX_ROWS)]), (0.0, *[1e-4] * MAX_ROWS), 1e-4
    )
    text = History([1, 2, 3, 1, 2, 3], 40)
    assert LookUp(Adaptive(costly, 0, DEPTH)).drafts(text) == []
    look_up = LookUp(Adaptive(cheap, 0, DEPTH))
    first = len(look_up.drafts(text))
    assert first > 0
    for _ in range(60):
        look_up.learn(text, [9])
    assert look_up.drafts(text) == []
    for _ in range(200):
        look_up.learn(text, [1, 2, 3, 1, 2, 3, 1, 2, 3])
    assert len(look_up.drafts(text)) >= first


def known(*followed: tuple[list[int], int, float]) -> Continuations:
    """Make known phrases, each with its next token and that token's share."""
    rows = [[-1] * (LONGEST - len(phrase)) + phrase for phrase, _, _ in followed]
    tokens, shares = zip(*((token, share) for _, token, share in followed), strict=True)
    return Continuations(Phrases(torch.tensor(rows), torch.tensor(tokens), torch.tensor(shares)))


def test_phrases_of_the_training_texts_are_drafted() -> None:
    """Where the text itself has nothing to copy; the longest that ends text and drafts counts."""
    phrases = known(([4], 5, 0.9), ([4, 5], 6, 0.9), ([5], 1, 0.9), ([6], 4, 0.9))
    look_up = LookUp(Fixed(5), phrases)
    assert [token for token, _ in look_up.drafts(History([9, 4], 20))] == [5, 6, 4, 5, 6]
    assert look_up.drafts(History([9, 8], 20)) == []


def test_the_candidate_that_is_more_often_right_is_drafted() -> None:
    """A copy from the text at first; the phrase once copies have failed."""
    text, look_up = History([1, 2, 1], 20), LookUp(Fixed(1), known(([1], 7, 0.3)))
    assert [token for token, _ in look_up.drafts(text)] == [2]
    for _ in range(20):
        look_up.learn(text, [7])
    assert [token for token, _ in look_up.drafts(text)] == [7]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("depth", [0, None])
def test_known_phrases_change_no_token(kind: str, sampled: bool, depth: int | None) -> None:
    """Phrases of the very text, and one that is wrong."""
    model, chooser = make(kind), Sampling(0.8, 0.95, 3) if sampled else Greedy()
    wanted = list(Decoder(model).stream(prompt(5), Plain(), 40, chooser=chooser))
    pairs = {tuple(wanted[at : at + 2]): wanted[at + 2] for at in range(0, 36, 2)}
    phrases = known(
        *(([*pair], token, 0.9) for pair, token in pairs.items()), ([wanted[7]], 0, 0.95)
    )
    decoder, stats = Decoder(model, known=phrases), DecodingStats()
    decoder._timings = FREE
    again = Sampling(0.8, 0.95, 3) if sampled else Greedy()
    strategy = decoder.speculative(depth)
    assert list(decoder.stream(prompt(5), strategy, 40, chooser=again, stats=stats)) == wanted
    assert stats.rounds["look-up"] > 0 and stats.accepted > 0


def test_a_stock_model_looks_up_by_itself() -> None:
    decoder, stats = Decoder(make("llama")), DecodingStats()
    decoder._timings = FREE
    strategy = decoder.speculative()
    for seed in range(3):
        tokens = prompt(6, seed) * 2
        found = list(decoder.stream(tokens, strategy, 60, stats=stats))
        assert found == list(decoder.stream(tokens, Plain(), 60))
    assert set(stats.rounds) <= {"look-up", "none"}
    assert stats.tokens > 2 * stats.passes  # a random model's greedy text soon repeats itself
    with pytest.raises(RequestError, match="draft depth 0 looks drafts up"):
        decoder.speculative(1)


def test_automatic_drafts_by_an_exit_where_nothing_is_found() -> None:
    """In a text without repetitions the exits draft, and elsewhere look-up does."""
    model = make("llama", seed=3)
    for layer in model.model.layers[1:]:  # so that every exit says what the last one does
        layer.self_attn.o_proj.weight.data.zero_()
        layer.mlp.down_proj.weight.data.zero_()
    decoder, stats = Decoder(model, (1, 2, 3)), DecodingStats()
    decoder._timings = FREE
    strategy = decoder.speculative()
    for seed in range(4):
        choosers = [Sampling(3.0, seed=seed) for _ in range(2)]
        wanted = list(decoder.stream(prompt(5), Plain(), 60, chooser=choosers[0]))
        found = decoder.stream(prompt(5), strategy, 60, chooser=choosers[1], stats=stats)
        assert list(found) == wanted
    assert stats.rounds["depth 1"] > stats.rounds["look-up"]
    before = stats.rounds["look-up"]
    list(decoder.stream(prompt(5) * 2, strategy, 100, stats=stats))
    assert stats.rounds["look-up"] > before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_look_up_changes_no_token_on_a_gpu(kind: str) -> None:
    decoder = Decoder(make(kind).to("cuda"), cuda_graphs=True)
    for seed in range(3):
        tokens = prompt(5, seed) * 2
        wanted = list(decoder.stream(tokens, Plain(), 60))
        for length in (1, 12, 40, None):
            assert list(decoder.stream(tokens, decoder.speculative(0, length), 60)) == wanted
