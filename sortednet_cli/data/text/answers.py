"""Questions with answers, packed into windows; only the answers are scored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from sortednet_cli.data.text.format import TextFormat
from sortednet_cli.data.text.parts import Batch, Inputs, TextPart, Truncation
from sortednet_cli.data.text.prompting import Prompt, Prompting
from sortednet_cli.data.text.ragged import CHUNK, IGNORED, Ragged, ragged
from sortednet_cli.data.text.records import Records
from sortednet_cli.errors import RequestError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class AnswersPart(TextPart):
    """Packed windows of questions and answers; a sample is a window.

    A sequence is a prompt, the answer and the end token. If it is too long, the end of its answer
    is cut off. If the prompt alone fills the window, the start of the question is cut off, until
    half the window or the whole answer fits.

    Raises:
        RequestError: what surrounds a question leaves no room for an answer.
    """

    def __init__(
        self,
        records: Records,
        tokenizer: PreTrainedTokenizerBase,
        text_format: TextFormat,
        prompting: Prompting,
        truncation: Truncation,
    ) -> None:
        self.num_bytes = 0
        self._format = text_format
        self._prompting = prompting
        questions: list[int] = []
        sequences = ragged(self._sequences(records, tokenizer, truncation, questions))
        windows, offsets = _pack(sequences.lengths.tolist(), text_format.max_length)
        self._lay_out(sequences, torch.tensor(questions), windows, offsets)
        self.num_targets = int((self._targets != IGNORED).sum())

    def __len__(self) -> int:
        return len(self._ids)

    def make_batch(self, indices: Tensor, generator: Generator | None) -> Batch:
        """Make windows: `input_ids` and targets [B, T]; `position_ids` if sequences are packed."""
        inputs: Inputs = {"input_ids": self._ids[indices].long()}
        positions = self._positions[indices].long()
        if bool((positions.diff(dim=1) != 1).any()):
            inputs["position_ids"] = positions
        return inputs, self._targets[indices].long()

    def _sequences(
        self,
        records: Records,
        tokenizer: PreTrainedTokenizerBase,
        truncation: Truncation,
        questions: list[int],
    ) -> Iterator[list[int]]:
        """Yield sequences; append the length of each prompt, and count the answers' bytes."""
        assert records.seconds is not None
        end = [] if self._prompting.end is None else [self._prompting.end]
        asked = self._prompting.prompts(records.texts)
        for prompt, text, (answer, ends) in zip(
            asked, records.seconds, _with_ends(records.seconds, tokenizer), strict=True
        ):
            given, reply = _truncate(prompt, [*answer, *end], self._format.max_length)
            whole = len(prompt.tokens) + len(answer) + len(end)
            truncation.count(int(len(given) + len(reply) < whole), 1)
            kept = min(len(reply), len(answer))
            complete = kept == len(answer)
            self.num_bytes += len((text if complete else text[: ends[kept - 1]]).encode())
            questions.append(len(given))
            yield given + reply

    def _lay_out(
        self, sequences: Ragged, questions: Tensor, windows: Tensor, offsets: Tensor
    ) -> None:
        """Write sequences into windows: ids, targets and positions, int32 [windows, T] each."""
        shape = (int(windows.max()) + 1 if len(windows) else 0, self._format.max_length)
        lengths = sequences.lengths
        within = torch.arange(len(sequences.values)) - sequences.starts[:-1].repeat_interleave(
            lengths
        )
        targeted = (windows * shape[1] + offsets).repeat_interleave(lengths) + within
        ids = torch.full(shape, self._format.pad_id, dtype=torch.int32)
        targets = torch.full(shape, IGNORED, dtype=torch.int32)
        ids.view(-1)[targeted] = sequences.values
        # A token is the target of the position before it; a question or start token comes first.
        scored = within >= questions.clamp_min(1).repeat_interleave(lengths)
        targets.view(-1)[targeted[scored] - 1] = sequences.values[scored]
        starts = torch.zeros(shape, dtype=torch.int32)
        starts[windows, offsets] = offsets.int()
        # Padding continues the positions of the last sequence, so it does not start a new one.
        positions = torch.arange(shape[1], dtype=torch.int32) - starts.cummax(1).values
        self._ids, self._targets, self._positions = ids, targets, positions


def _truncate(prompt: Prompt, answer: list[int], length: int) -> tuple[list[int], list[int]]:
    """Truncate a prompt and its answer to `length` tokens together."""
    around = len(prompt.before) + len(prompt.after)
    room = length - around
    if len(prompt.question) < room:
        return prompt.tokens, answer[: room - len(prompt.question)]
    if room <= length // 2:
        raise RequestError(
            f"data.max_length: {length} tokens leave too little room, because {around} of them"
            " surround each question: raise it"
        )
    kept = answer[: length // 2]
    question = prompt.question[len(prompt.question) + len(kept) - room :]
    return [*prompt.before, *question, *prompt.after], kept


def _with_ends(
    texts: list[str], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the token ids of each text, and the character at which each token ends."""
    backend = tokenizer.backend_tokenizer
    for start in range(0, len(texts), CHUNK):
        chunk = texts[start : start + CHUNK]
        for encoding in backend.encode_batch(chunk, add_special_tokens=False):
            yield encoding.ids, [end for _, end in encoding.offsets]


def _pack(lengths: list[int], room: int) -> tuple[Tensor, Tensor]:
    """Put each sequence into the fullest window with room for it, or into a new one.

    Returns the window and the offset of each sequence, int64 [N] each.
    """
    open_windows: list[list[int]] = [[] for _ in range(room + 1)]  # keyed by the room left
    windows: list[int] = []
    offsets: list[int] = []
    count = 0
    for length in lengths:
        left = next((r for r in range(length, room) if open_windows[r]), room)
        if left < room:
            window = open_windows[left].pop()
        else:
            window, count = count, count + 1
        windows.append(window)
        offsets.append(room - left)
        open_windows[left - length].append(window)
    return torch.tensor(windows, dtype=torch.int64), torch.tensor(offsets, dtype=torch.int64)
