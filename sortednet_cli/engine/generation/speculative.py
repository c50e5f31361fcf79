"""Self-speculative decoding: the first layers draft, and one pass of the others verifies.

The drafting layers are a prefix of the model and share its cache and states, so verification runs
only the layers above them. The output equals that of plain decoding token for token, greedy or
sampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sortednet_cli.engine.generation.choice import Chooser, Draft, Verdict
from sortednet_cli.engine.generation.draft_length import DraftLength
from sortednet_cli.engine.generation.history import History
from sortednet_cli.engine.generation.stack import Stack
from sortednet_cli.engine.generation.statistics import DecodingStats


class Speculative:
    """Drafts with the first `depth` layers and verifies with the layers above.

    Args:
        depth: number of layers that draft; below the model's depth.
        length: decides how many tokens to draft.

    Attributes:
        name: what drafts, as statistics name it.
    """

    def __init__(self, depth: int, length: DraftLength) -> None:
        self._depth = depth
        self._length = length
        self.name = f"depth {depth}"

    def tokens(
        self,
        stack: Stack,
        tokens: Sequence[int],
        chooser: Chooser,
        stats: DecodingStats,
        wanted: int,
    ) -> Iterator[int]:
        history = History(tokens, wanted)
        while True:
            new = self.round(stack, history, chooser, stats)
            history.extend(new)
            yield from new

    def round(
        self, stack: Stack, history: History, chooser: Chooser, stats: DecodingStats
    ) -> list[int]:
        """Draft and verify once.

        Returns:
            The next tokens, at least one.
        """
        start = stack.length
        drafts = self._draft(stack, history, chooser)
        stack.advance(stack.depth)
        stats.passes += 1
        stats.rounds[self.name if drafts else "none"] += 1
        verdict = chooser.verify(drafts, stack.logits(len(drafts) + 1), start + 1)
        self._count(verdict, stats)
        stack.truncate(start + verdict.accepted + 1)
        if verdict.sure:
            return [*verdict.kept, verdict.token]
        token = _recompute(stack, history, verdict.kept, chooser, stats)
        stats.changed += token != verdict.token
        return [*verdict.kept, token]

    def _draft(self, stack: Stack, history: History, chooser: Chooser) -> list[Draft]:
        """Push the last token and drafts after it, through the drafting layers at least."""
        length, drafts = self._length, list[Draft]()
        stack.push(history.tokens[-1:])
        stack.advance(self._depth)
        length.begin()
        while len(drafts) < history.room and length.wants_more(len(drafts)):
            draft = chooser.draft(stack.draft_logits(), stack.length)
            # Where a look waits for the device, all drafts are looked at when they are verified.
            confidence = None if stack.asynchronous else float(draft.confidence)
            if not length.keep(len(drafts), confidence):
                break
            stack.push(draft.token[None])
            stack.advance(self._depth)
            drafts.append(draft)
        return drafts

    def _count(self, verdict: Verdict, stats: DecodingStats) -> None:
        # Drafts after a rejected one, and an unsure one, were not verified.
        checked = verdict.confidences[: verdict.accepted + verdict.sure]
        self._observe(checked, verdict.accepted)
        drafted = len(verdict.confidences)
        self._length.finish(drafted, verdict.accepted + 1)
        stats.drafted += drafted
        stats.checked += len(checked)
        stats.accepted += verdict.accepted

    def _observe(self, confidences: list[float], accepted: int) -> None:
        """Record which of the verified drafts were accepted."""
        for index, confidence in enumerate(confidences):
            self._length.observe(confidence, index < accepted)


def _recompute(
    stack: Stack, history: History, kept: list[int], chooser: Chooser, stats: DecodingStats
) -> int:
    """Pick the token after a text and the drafts that it keeps, from passes over single positions.

    A pass over several positions rounds differently from a pass over one. If the two best tokens
    are closer than that difference, the last position is recomputed in a pass of its own. If they
    are still closer than the error that earlier joint passes may have left in the cache, every
    position is recomputed.
    """
    generated = [*history.tokens[history.prompt :], *kept]
    stats.recomputed += 1
    stack.truncate(stack.length - 1)
    stack.push(generated[-1:])
    stack.advance(stack.depth)
    chosen, is_near = chooser.settle(stack.logits(1)[0], stack.length)
    if not is_near:
        return chosen
    stats.replayed += 1
    stack.truncate(history.prompt)
    for token in generated:
        stack.push([token])
        stack.advance(stack.depth)
    return chooser.pick(stack.logits(1)[0], stack.length)
