"""Load a saved tokenizer, or train a byte-level BPE on the training part."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sortednet_cli.bounded import MAX_TOKENIZER, check_regular
from sortednet_cli.errors import RequestError, reason_of
from sortednet_cli.storage.artifact import TOKENIZER_FILES, VOCABULARIES, has_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

BIDIRECTIONAL = ("classification", "masked-lm")
_STREAMS = (1, 2)
_CAUSAL_ROLES = {"bos_token": "<|begin|>", "eos_token": "<|end|>", "pad_token": "<|pad|>"}
_MASKED_ROLES = {"mask_token": "<|mask|>", "cls_token": "<|cls|>", "sep_token": "<|sep|>"}


def train_tokenizer(
    texts: Iterable[str], task: str, *, vocab_size: int, max_length: int
) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE. It is deterministic, and decoding restores every text.

    Bidirectional tasks get `<|cls|> text <|sep|>`, causal ones `<|begin|> text`. The tokenizer
    adds these tokens itself, so that stock code encodes a prompt as in training.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bidirectional = task in BIDIRECTIONAL
    roles = {**_CAUSAL_ROLES, **(_MASKED_ROLES if bidirectional else {})}
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(roles.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    if bidirectional:
        _surround(tokenizer, _MASKED_ROLES["cls_token"], _MASKED_ROLES["sep_token"])
    else:
        _surround(tokenizer, _CAUSAL_ROLES["bos_token"])
    fast: PreTrainedTokenizerBase = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
        **roles,
    )
    return fast


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer saved in `folder`; RequestError if there is none or it is damaged."""
    from transformers import AutoTokenizer

    if not has_tokenizer(folder):
        raise RequestError(f"{folder} holds no tokenizer: expected {', '.join(VOCABULARIES)}")
    try:
        _check_files(folder)
        with _silenced():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            tokenizer("a b")  # some entries are only read at the first use
    except (KeyboardInterrupt, SystemExit, MemoryError, RequestError):
        raise
    except BaseException as error:  # a Rust panic is not an Exception
        raise RequestError(
            f"the tokenizer in {folder} cannot be read: {_unread(folder) or reason_of(error)}"
        ) from error
    if not tokenizer.is_fast:
        raise RequestError(
            f"the tokenizer in {folder} is not a fast one: save it with a tokenizer.json"
        )
    # The files of sentence encoders set both, but the spec decides lengths.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def _check_files(folder: Path) -> None:
    for pattern in ("*.json", *TOKENIZER_FILES):
        for file in folder.glob(pattern):
            try:
                if not file.is_dir():
                    check_regular(file, MAX_TOKENIZER)
            except OSError as error:
                reason = reason_of(error)
                raise RequestError(f"the tokenizer's {file} cannot be read: {reason}") from error


def _unread(folder: Path) -> str | None:
    """Return the reason if a sentencepiece model cannot be read for lack of that package."""
    is_complete = (folder / "tokenizer.json").is_file()
    if is_complete or not any(folder.glob("*.model")) or find_spec("sentencepiece"):
        return None
    return "without a tokenizer.json it needs the package sentencepiece: pip install sentencepiece"


@contextmanager
def _silenced() -> Iterator[None]:
    """Discard what foreign code writes to the streams directly: our stdout carries data."""
    saved: dict[int, int] = {}
    for stream in _STREAMS:
        with suppress(OSError):  # the stream may be closed
            saved[stream] = os.dup(stream)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in saved:
            os.dup2(null, stream)
        yield
    finally:
        for stream, copy in saved.items():
            os.dup2(copy, stream)
            os.close(copy)
        os.close(null)


def check_roles(tokenizer: PreTrainedTokenizerBase, task: str) -> int:
    """Return the id of the padding token; RequestError if the task needs a missing token."""
    if task == "masked-lm" and tokenizer.mask_token_id is None:
        raise RequestError("masked-lm needs a tokenizer with a mask token; this one has none")
    pad = tokenizer.pad_token_id
    if pad is None and task not in BIDIRECTIONAL:
        pad = tokenizer.eos_token_id
    if pad is None:
        wanted = "a pad token" if task in BIDIRECTIONAL else "a pad or an end token"
        raise RequestError(f"{task} needs a tokenizer with {wanted}; this one has none")
    return int(pad)


def num_tokens(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the number of embedding rows that the tokenizer needs; its ids may have gaps."""
    return 1 + max(tokenizer.get_vocab().values(), default=-1)


def surrounding(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the special tokens that the tokenizer puts before and after a text."""
    encoding = tokenizer.backend_tokenizer.encode("a")
    inner = [index for index, special in enumerate(encoding.special_tokens_mask) if not special]
    if not inner:
        raise RequestError("the tokenizer encodes the letter a to no token")
    return encoding.ids[: inner[0]], encoding.ids[inner[-1] + 1 :]


def start_token(tokenizer: PreTrainedTokenizerBase, task: str) -> int | None:
    """Return the token that a text starts with, or None. For causal tasks the tokenizer decides.

    Raises:
        RequestError: the tokenizer puts several tokens before a text.
    """
    if task in BIDIRECTIONAL:
        return None if tokenizer.bos_token_id is None else int(tokenizer.bos_token_id)
    before, _ = surrounding(tokenizer)
    if len(before) > 1:
        tokens = ", ".join(tokenizer.convert_ids_to_tokens(before))
        raise RequestError(f"{task} allows one token before a text; the tokenizer puts {tokens}")
    return before[0] if before else None


def _surround(tokenizer: Tokenizer, before: str, after: str = "") -> None:
    from tokenizers import processors

    end = f" {after}" if after else ""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{before} $A{end}",
        pair=f"{before} $A{end} $B{end}",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in (before, after) if t],
    )
