"""What a decoding counted. Knows no model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class DecodingStats:
    """Counts over any number of prompts.

    Attributes:
        prompt_tokens: tokens read.
        tokens: tokens generated.
        seconds: time of both, less what the reader of the text took.
        passes: times that the deepest layer ran after a prompt.
        drafted: tokens drafted, `checked` of them compared (those behind a wrong one are not),
            `accepted` of these kept.
        recomputed: positions whose two best tokens were too close for a pass over several.
        replayed: sequences recomputed from their prompt, because even then they were.
        changed: recomputed positions whose token was another than the joint pass had said.
        exits: tokens by the depth that their logits came from.
    """

    prompt_tokens: int = 0
    tokens: int = 0
    seconds: float = 0.0
    passes: int = 0
    drafted: int = 0
    checked: int = 0
    accepted: int = 0
    recomputed: int = 0
    replayed: int = 0
    changed: int = 0
    exits: Counter[int] = field(default_factory=Counter)

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def acceptance(self) -> float | None:
        """The share of compared drafts that were kept."""
        return self.accepted / self.checked if self.checked else None

    def record(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        found: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "tokens_per_second": self.tokens_per_second,
            "passes": self.passes,
            "tokens_per_pass": self.tokens / self.passes if self.passes else None,
        }
        if self.drafted:
            found |= {
                "drafted": self.drafted,
                "accepted": self.accepted,
                "acceptance": self.acceptance,
                "recomputed": self.recomputed,
                "replayed": self.replayed,
                "changed": self.changed,
            }
        if self.exits:
            found["exits"] = {str(depth): self.exits[depth] for depth in sorted(self.exits)}
        return found
