"""The worker that generates texts: one batch for each size that is being asked for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from sortednet_cli.engine.evaluation.latency import median_ms
from sortednet_cli.engine.generation import Greedy
from sortednet_cli.engine.generation.text import TextStream
from sortednet_cli.engine.serving.batch import Batch, Sequence
from sortednet_cli.engine.serving.choice import SizeChooser
from sortednet_cli.engine.serving.jobs import Finished, FinishReason, Job, Piece
from sortednet_cli.engine.serving.metrics import Metrics
from sortednet_cli.engine.serving.reference import Reference
from sortednet_cli.machine.transfer import fetch
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.space import SubModel

MARGIN = 3e-5
"""Relative difference of two scores below which a batch could swap them. In float32 a batch and a
single text differ by about 1e-6 of the logits, and by 3e-6 after 30 layers."""

_WARMUP, _REPEATS, _PAST = 2, 7, 16
"""Passes before and of a measurement of the time per token, and the tokens before them."""


@dataclass(frozen=True)
class TextWork:
    """What a job generates.

    Attributes:
        sequence: its tokens.
        stream: makes them a text, up to a stop string.
        end: a token that ends it, besides the model's.
    """

    sequence: Sequence
    stream: TextStream
    end: int | None = None


class TextWorker:
    """Generates texts, a token of each active one in turn.

    Args:
        network: the root network.
        sizes: chooses sub-models by their speed.
        end: tokens that end a text.
    """

    def __init__(
        self, network: NestedNetwork, sizes: SizeChooser, end: Collection[int], metrics: Metrics
    ) -> None:
        self._network, self._sizes, self._metrics = network, sizes, metrics
        self._end = frozenset(end)
        self._batches: dict[SubModel, Batch] = {}
        self._jobs: dict[Sequence, Job] = {}
        self._reference = Reference(network)

    def begin(self, job: Job) -> None:
        submodel, latency = self._sizes.choose(job.size, self.latency_ms)
        work: TextWork = job.work
        job.start(submodel, latency)
        self._metrics.count_prompt(submodel.name, len(work.sequence.prompt))
        if submodel not in self._batches:
            self._batches[submodel] = Batch(self._network.at(submodel))
        logits = self._batches[submodel].admit(work.sequence)
        self._jobs[work.sequence] = job
        self._take(work.sequence, logits)

    def step(self) -> None:
        for submodel, batch in self._batches.items():
            for sequence in list(batch.sequences):
                if self._jobs[sequence].is_over:
                    self._let_go(sequence)
            if not batch.sequences:
                continue
            running = list(batch.sequences)
            logits = batch.step()
            self._metrics.count_step(submodel.name)
            for sequence, row in zip(running, logits, strict=True):
                self._take(sequence, row)

    def rest(self) -> None:
        for sequence in list(self._jobs):
            self._let_go(sequence)
        self._reference.release()

    def latency_ms(self, submodel: SubModel) -> float:
        """Measure the median time of one token of one text, in milliseconds."""
        batch, count = Batch(self._network.at(submodel)), _WARMUP + _REPEATS
        past = max(1, min(_PAST, batch.context - count))
        sequence = Sequence([0] * past, count + 1, Greedy())
        batch.admit(sequence)

        def one_token() -> None:
            sequence.tokens.append(0)
            int(batch.step().argmax())

        return median_ms(one_token, _WARMUP, _REPEATS)

    def _take(self, sequence: Sequence, logits: Tensor) -> None:
        """Choose the next token of a sequence from logits [V], and send what it adds to the text.

        The sequence leaves its batch if that ends it.
        """
        job = self._jobs[sequence]
        stream = job.work.stream
        token = self._choose(job, sequence, logits)
        reason: FinishReason | None = None
        if token in self._end or token == job.work.end:
            reason = "stop"
        else:
            sequence.tokens.append(token)
            self._send(job, stream.push(token))
            if stream.stopped:
                reason = "stop"
            elif len(sequence.tokens) == sequence.wanted:
                reason = "length"
        if reason is not None:
            if not stream.stopped:
                self._send(job, stream.end())
            job.end(Finished("stop" if stream.stopped else reason, len(sequence.tokens)))
            self._let_go(sequence)

    def _choose(self, job: Job, sequence: Sequence, logits: Tensor) -> int:
        """Choose a token from logits [V]; where rounding could decide, as `generate` would."""
        chooser, position = sequence.chooser, sequence.length
        scores = chooser.scores(logits[None], position)[0]
        token, values = fetch((scores.argmax(), scores.topk(2).values))
        best, second = values.tolist()
        if best - second > MARGIN * max(1.0, abs(best)):
            return int(token)
        assert job.submodel is not None
        self._metrics.count_recomputed(job.submodel.name)
        exact = self._reference.logits(job.submodel, sequence.prompt, sequence.tokens)
        with torch.inference_mode():
            return chooser.pick(exact, position)

    @staticmethod
    def _send(job: Job, text: str) -> None:
        if text:
            job.send(Piece(text))

    def _let_go(self, sequence: Sequence) -> None:
        """Take a sequence out of its batch, and end its job if nobody has."""
        job = self._jobs.pop(sequence)
        assert job.submodel is not None
        self._batches[job.submodel].remove(sequence)
        job.end()
