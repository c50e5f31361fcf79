"""What measured layer times and acceptance allow of drafts: chains, trees, and prompt look-up.

Times count layers and heads, and nothing of the work between them. `benchmarks.speed.decoding`
prints the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sortednet_cli.engine.generation.timings import MAX_ROWS, LayerTimings

LENGTHS = range(1, 11)
UNCERTAIN = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Confidences below which a draft is tried as uncertain."""

NGRAM = 3
"""Most tokens that prompt look-up compares."""


@dataclass(frozen=True)
class Said:
    """What an exit says where the whole model writes a token.

    Attributes:
        first, second: whether its likeliest token is the model's, and its second likeliest.
        confidence: the probability of its likeliest token.
    """

    first: bool
    second: bool
    confidence: float


@dataclass(frozen=True)
class Round:
    """One round of drafts and their verification.

    Attributes:
        gained: tokens, the one of the verification included.
        rows: positions that are verified.
        single, double: steps of the drafting layers on one position, and on two at once.
        heads: draft heads that were computed, for one position or two.
    """

    gained: int
    rows: int
    single: int
    double: int
    heads: int


def chain(text: Sequence[Said], place: int, length: int, uncertain: float) -> Round:
    """Draft up to `length` tokens, but none after one that is uncertain."""
    drafts = _drafts(text, place, length)
    ends = next((i for i, said in enumerate(drafts) if said.confidence < uncertain), len(drafts))
    drafts = drafts[: ends + 1]
    run = _run(drafts)
    return Round(run + 1, len(drafts) + 1, len(drafts) + 1, 0, len(drafts))


def leaf(text: Sequence[Said], place: int, length: int, uncertain: float) -> Round:
    """Draft as `chain` does, and add the second candidate of the uncertain last token."""
    plain, drafts = chain(text, place, length, uncertain), _drafts(text, place, length)
    last = plain.rows - 2
    if last < 0 or drafts[last].confidence >= uncertain:
        return plain
    saved = plain.gained == last + 1 and drafts[last].second
    return Round(plain.gained + saved, plain.rows + 1, plain.single - 1, 1, plain.heads)


def tree(text: Sequence[Said], place: int, length: int, uncertain: float) -> Round:
    """Draft `length` tokens, and from the first uncertain one on after its second candidate too."""
    drafts = _drafts(text, place, length)
    fork = next((i for i, said in enumerate(drafts) if said.confidence < uncertain), None)
    if fork is None:
        return chain(text, place, length, 0.0)
    branch, run = len(drafts) - fork, _run(drafts)
    if run == fork and drafts[fork].second:
        run = fork + 1 + _run(drafts[fork + 1 :])
    return Round(run + 1, len(drafts) + branch + 1, fork + 1, branch, len(drafts))


Draft = Callable[[Sequence[Said], int, int, float], Round]
KINDS: dict[str, Draft] = {"chain": chain, "leaf": leaf, "tree": tree}


def bounds(
    pace: LayerTimings, depth: int, exits: dict[int, list[list[Said]]]
) -> list[dict[str, Any]]:
    """Ratios to plain decoding by draft depth, at the length and threshold that are best there.

    Args:
        depth: layers of the model.
        exits: by draft depth, what the exit says at each token of each text.
    """
    found = []
    for exit_depth, texts in exits.items():
        row: dict[str, Any] = {"depth": exit_depth}
        for kind, draft in KINDS.items():
            rates = {
                (length, uncertain): _rate(pace, depth, exit_depth, texts, draft, length, uncertain)
                for length in LENGTHS
                for uncertain in UNCERTAIN
            }
            length, uncertain = best = max(rates, key=lambda key: rates[key])
            row[kind] = {"gain": rates[best], "length": length, "uncertain": uncertain}
        found.append(row)
    return found


def look_up_bounds(
    pace: LayerTimings, depth: int, texts: Iterable[tuple[list[int], list[int]]]
) -> dict[str, float]:
    """The same for drafts that are looked up in the text so far, by the best of their lengths."""
    pairs = list(texts)
    rates = {}
    for length in LENGTHS:
        seconds, tokens = 0.0, 0
        for prompt, output in pairs:
            place = 1
            while place < len(output):
                drafts = looked_up([*prompt, *output[:place]], length)
                run = 0
                for token, wanted in zip(drafts, output[place:], strict=False):
                    if token != wanted:
                        break
                    run += 1
                rows = len(drafts) + 1
                seconds += depth * pace.layer[rows] + pace.head[rows]
                gained = min(run + 1, len(output) - place)
                place, tokens = place + gained, tokens + gained
        rates[length] = tokens * pace.step(depth) / seconds if seconds else 1.0
    best = max(rates, key=lambda length: rates[length])
    return {"gain": rates[best], "length": best}


def looked_up(text: Sequence[int], length: int) -> list[int]:
    """Return what followed the last tokens where most of them stood before, at most `length`."""
    for size in range(NGRAM, 0, -1):
        end = list(text[-size:])
        for start in range(len(text) - size - 1, -1, -1):
            if list(text[start : start + size]) == end:
                return list(text[start + size : start + size + length])
    return []


def _rate(
    pace: LayerTimings,
    depth: int,
    exit_depth: int,
    texts: Sequence[Sequence[Said]],
    draft: Draft,
    length: int,
    uncertain: float,
) -> float:
    """Tokens a second as a ratio to plain decoding."""
    seconds, tokens = 0.0, 0
    for text in texts:
        place = 0
        while place < len(text):
            made = draft(text, place, length, uncertain)
            seconds += (
                exit_depth * (made.single * pace.layer[1] + made.double * pace.layer[2])
                + made.heads * pace.draft_head
                + (depth - exit_depth) * pace.layer[min(made.rows, MAX_ROWS)]
                + pace.head[min(made.rows, MAX_ROWS)]
            )
            gained = min(made.gained, len(text) - place)
            place, tokens = place + gained, tokens + gained
    return tokens * pace.step(depth) / seconds


def _drafts(text: Sequence[Said], place: int, length: int) -> Sequence[Said]:
    # The last token of a round is the verification's, so a text's last token is never drafted.
    return text[place : min(place + length, len(text) - 1)]


def _run(drafts: Sequence[Said]) -> int:
    """How many drafts from the first on are right."""
    return next((i for i, said in enumerate(drafts) if not said.first), len(drafts))
