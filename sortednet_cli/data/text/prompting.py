"""How a question is put to a causal model, and the token that ends an answer.

Knows a tokenizer and its chat template; nothing of windows, models or decoding.
"""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sortednet_cli.data.text.ragged import CHUNK, token_ids
from sortednet_cli.data.text.tokenizer import surrounding
from sortednet_cli.errors import RequestError, reason_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_DAY = datetime(2025, 1, 1)
"""Now, for templates that tell the date: a training must not depend on the day of its start."""


@dataclass(frozen=True)
class Prompt:
    """The tokens of a question, and what surrounds them, up to where the answer begins."""

    before: list[int]
    question: list[int]
    after: list[int]

    @property
    def tokens(self) -> list[int]:
        return [*self.before, *self.question, *self.after]


class Prompting(ABC):
    """Turns questions into prompts.

    Attributes:
        end: the token that ends an answer; None if the tokenizer has none.
    """

    end: int | None

    @abstractmethod
    def prompts(self, questions: Sequence[str]) -> Iterator[Prompt]:
        """Yield the prompt of each question; RequestError if the template fails on one."""


class Plain(Prompting):
    """The question as it is, and then `separator`, after the tokens that start a text."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, start: list[int], separator: str
    ) -> None:
        self.end = tokenizer.eos_token_id
        self._tokenizer, self._start, self._separator = tokenizer, start, separator

    def prompts(self, questions: Sequence[str]) -> Iterator[Prompt]:
        texts = [f"{question}{self._separator}" for question in questions]
        for ids in token_ids(self._tokenizer, texts):
            yield Prompt(self._start, ids, [])


class Chat(Prompting):
    """The question as a user's turn in the tokenizer's own chat template.

    Raises:
        RequestError: there is no template, it fails, or no special token ends its turns.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.end = self._find_end()

    def prompts(self, questions: Sequence[str]) -> Iterator[Prompt]:
        backend = self._tokenizer.backend_tokenizer
        for start in range(0, len(questions), CHUNK):
            chunk = questions[start : start + CHUNK]
            texts = [self._render([_turn("user", question)], prompt=True) for question in chunk]
            encodings = backend.encode_batch(texts, add_special_tokens=False)
            for question, text, encoding in zip(chunk, texts, encodings, strict=True):
                asked = question.strip()  # as some templates put it
                low = text.rfind(asked)
                high = low + len(asked)
                # Of a template that changes the question, none of the tokens can be cut.
                first = sum(end <= low for _, end in encoding.offsets) if low >= 0 else 0
                last = sum(begin < high for begin, _ in encoding.offsets) if low >= 0 else 0
                ids = encoding.ids
                yield Prompt(ids[:first], ids[first:last], ids[last:])

    def _find_end(self) -> int:
        """Return the special token that the template puts after an answer."""
        answer = "answer"
        turns = [_turn("user", "question"), _turn("assistant", answer)]
        _, _, behind = self._render(turns, prompt=False).rpartition(answer)
        encoding = self._tokenizer.backend_tokenizer.encode(behind, add_special_tokens=False)
        special = set(self._tokenizer.all_special_ids)
        if not encoding.ids or encoding.ids[0] not in special:
            raise RequestError(
                f"the tokenizer's chat template ends an answer with {behind!r}, which does not"
                " begin with a special token"
            )
        return int(encoding.ids[0])

    def _render(self, turns: list[dict[str, str]], *, prompt: bool) -> str:
        return render_chat(self._tokenizer, turns, prompt=prompt)


def render_chat(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Mapping[str, str]], *, prompt: bool
) -> str:
    """Render turns, each with `role` and `content`, by the tokenizer's own chat template.

    Args:
        prompt: whether the text ends where the assistant's next turn begins.

    Raises:
        RequestError: there is no template, or it fails on these turns.
    """
    if not tokenizer.chat_template:
        raise RequestError("the tokenizer has no chat template: prompts can only be plain texts")
    try:
        text: Any = tokenizer.apply_chat_template(
            [dict(turn) for turn in turns],
            chat_template=f"{_fixed_day()}{tokenizer.get_chat_template()}",
            add_generation_prompt=prompt,
            tokenize=False,
        )
    except MemoryError:
        raise
    except Exception as error:  # a template raises what its author chose
        raise RequestError(f"the tokenizer's chat template failed: {reason_of(error)}") from error
    return str(text)


def chat_tokens(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Mapping[str, str]]
) -> list[int]:
    """Tokenize turns as `render_chat` renders them, up to where the assistant's next one begins.

    Unlike in transformers, a special token's name within a turn is text: whoever wrote the turn
    can neither end it nor begin another one.

    Raises:
        RequestError: as `render_chat`.
    """
    added = tokenizer.added_tokens_decoder.values()
    names = [re.escape(token.content) for token in added if token.special and token.content]
    # No token reaches over a cut, so a cut behind the first character of a name makes it text.
    cut = secrets.token_hex(16)
    start_of_name = re.compile(f"(?=(?:{'|'.join(names) or '(?!)'}))(.)", re.DOTALL)
    harmless = [
        {
            key: value if key == "role" else start_of_name.sub(rf"\g<1>{cut}", value)
            for key, value in turn.items()
        }
        for turn in turns
    ]
    pieces = render_chat(tokenizer, harmless, prompt=True).split(cut)
    return [token for ids in token_ids(tokenizer, pieces) for token in ids]


def make_prompting(tokenizer: PreTrainedTokenizerBase, task: str, template: str) -> Prompting:
    """Make the prompting of a causal task.

    Args:
        task: `causal-lm`, whose prompts are the starts of texts, or `answers`.
        template: as `data.template`.

    Raises:
        RequestError: as `Chat`.
    """
    if template == "chat":
        return Chat(tokenizer)
    before, _ = surrounding(tokenizer)
    return Plain(tokenizer, before, "\n" if task == "answers" else "")


def _fixed_day() -> str:
    """Return the start of a template, which gives its function `strftime_now` a fixed day."""
    parts = [f"%{letter}" for letter in "aAbBdHjmMpSyY"]
    filters = "".join(f" | replace('{part}', '{_DAY.strftime(part)}')" for part in parts)
    return "{%- macro strftime_now(format) -%}{{ format" + filters + " }}{%- endmacro +%}"


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
