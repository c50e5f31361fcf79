"""Prompts of a causal model: how texts and chats become its tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property

from sortednet_cli.data.text.prompting import Chat, chat_tokens, make_prompting
from sortednet_cli.data.text.table import is_unicode
from sortednet_cli.data.text.tokenizer import load_tokenizer, num_tokens, surrounding
from sortednet_cli.engine.generation.causal import require_causal
from sortednet_cli.engine.generation.decoder import check_prompt
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.errors import RequestError, listed
from sortednet_cli.families.transformers.stock_configs import GENERATION, ignored_entries
from sortednet_cli.logs import logger
from sortednet_cli.spec import TextDataSpec


class Prompts:
    """The tokenizer of a causal model, and what turns texts into its prompts.

    A prompt becomes what a question became in training.

    Args:
        chat: whether a prompt is a user's turn in the tokenizer's chat template; None: if the model
            was trained so.

    Attributes:
        tokenizer: the tokenizer.
        end: the token with which the chat template ends an answer, if prompts are turns.

    Raises:
        RequestError: the model is not causal, or its tokenizer is missing, damaged or too large, or
            has no usable chat template where prompts are turns.
    """

    def __init__(self, source: Source, chat: bool | None = None) -> None:
        text_format = require_causal(source)
        self._asks = text_format.task == "answers"
        self.tokenizer = load_tokenizer(source.tokenizer)
        if (count := num_tokens(self.tokenizer)) > text_format.vocab_size:
            raise RequestError(
                f"the tokenizer in {source.tokenizer} has {count:,} tokens, but the model"
                f" only {text_format.vocab_size:,}"
            )
        template = _template(source, chat)
        self._prompting = make_prompting(self.tokenizer, text_format.task, template)
        self.end = self._prompting.end if template == "chat" else None
        if template == "plain" and (behind := surrounding(self.tokenizer)[1]):
            tokens = listed(self.tokenizer.convert_ids_to_tokens(behind))
            logger.info("prompts omit what the tokenizer puts after a text: %s", tokens)
        if others := ignored_entries(source.generation):
            logger.info("%s: ignored settings: %s", GENERATION, listed(others))

    @cached_property
    def chat_end(self) -> int | None:
        """The special token with which the chat template ends an answer, if there is one."""
        with suppress(RequestError):
            return Chat(self.tokenizer).end
        return None

    def encode(self, prompt: str, context: int) -> list[int]:
        """Tokenize a prompt; RequestError if it is empty, no text, or too long for the context."""
        if not prompt.strip():
            raise RequestError("the prompt is empty")
        if not is_unicode(prompt):
            raise RequestError("the prompt is not valid UTF-8")
        # A newline at the end may be the one that separates question and answer.
        (made,) = self._prompting.prompts([prompt.removesuffix("\n") if self._asks else prompt])
        check_prompt(made.tokens, context)
        return made.tokens

    def encode_chat(self, messages: Sequence[Mapping[str, str]], context: int) -> list[int]:
        """Tokenize a chat by the tokenizer's own template, up to where the answer begins.

        The messages cannot hold special tokens, which are text there.

        Raises:
            RequestError: there is no template, it refuses the messages, or they are too long.
        """
        tokens = chat_tokens(self.tokenizer, messages)
        check_prompt(tokens, context)
        return tokens


def _template(source: Source, chat: bool | None) -> str:
    """Return what prompts become, as `data.template`."""
    if chat is not None:
        return "chat" if chat else "plain"
    return source.data.template if isinstance(source.data, TextDataSpec) else "plain"
