"""The tails of a pass: logits, losses and their gradients, a chunk of rows at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from sortednet_cli.engine.training.teaching import Lessons, Teacher
from sortednet_cli.families import SharedPass
from sortednet_cli.space import SubModel
from sortednet_cli.spec import TrainSpec
from sortednet_cli.tasks import Task
from sortednet_cli.tasks.chunks import chunks, training_chunks


@dataclass
class Tails:
    """The tails of one pass, an entry for each sub-model of its group.

    Attributes:
        states: of the rows that are scored, [N, C], with their graph.
        gradients: of the losses with respect to the states.
        losses: weighted, without a graph.
        taught: logits by chunk of the sub-models whose logits other groups need.
    """

    task: Task
    spec: TrainSpec
    shared: SharedPass
    group: Sequence[SubModel]
    weights: Mapping[SubModel, float]
    lessons: Lessons
    known: Mapping[Teacher, Sequence[Tensor]]
    states: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    taught: dict[SubModel, list[Tensor]] = field(default_factory=dict)
    _pieces: list[list[Tensor]] = field(default_factory=list)

    def run(self, states: list[Tensor], wanted: Tensor) -> None:
        """Add the exits' losses, a chunk of logits at a time, so that few logits exist at once."""
        self.states, self._pieces = states, [[] for _ in self.group]
        self.losses = [torch.zeros((), device=wanted.device) for _ in self.group]
        self.taught = {submodel: [] for submodel in self.lessons.kept}
        teachers = dict(self.lessons.pairs)
        for chunk, rows in enumerate(training_chunks(len(wanted), self.task.num_outputs)):
            given = {teacher: logits[chunk] for teacher, logits in self.known.items()}
            for number, submodel in enumerate(self.group):
                logits = self._logits(number, rows)
                teacher = given[teachers[submodel]] if submodel in teachers else None
                share = self.weights[submodel] * len(wanted[rows]) / len(wanted)
                self.losses[number] += self._add(logits, wanted[rows], teacher, share)
                if submodel in teachers.values():
                    given[submodel] = logits.detach().float()
                if submodel in self.taught:
                    self.taught[submodel].append(logits.detach().float())
        if not len(wanted):  # gradients of zero, so that all processes have the same to sum
            for number in range(len(self.group)):
                self._backward(self._logits(number, slice(0, 0)).sum())
        self.gradients = [_joined([cast(Tensor, p.grad) for p in own]) for own in self._pieces]

    def _logits(self, number: int, rows: slice) -> Tensor:
        self._pieces[number].append(self.states[number].detach()[rows].requires_grad_())
        logits = self.shared.logits(number, self._pieces[number][-1])
        return logits if len(self._parts(len(logits))) > 1 else logits.float()

    def _parts(self, num_rows: int) -> list[slice]:
        """What the loss of a chunk takes at a time, in float32."""
        return list(chunks(num_rows, self.task.num_outputs))

    def _add(self, logits: Tensor, wanted: Tensor, teacher: Tensor | None, weight: float) -> Tensor:
        """Run the backward pass of one chunk of logits; return its part of the weighted loss.

        Where a chunk is large, its loss takes a few rows at a time in float32, and the head's
        gradient all of them at once.
        """
        parts = self._parts(len(wanted))
        if len(parts) == 1:
            loss = self._loss(logits, wanted, teacher) * weight
            self._backward(loss)
            return loss.detach()
        total, gradient = torch.zeros((), device=wanted.device), torch.empty_like(logits)
        for rows in parts:
            own = logits.detach()[rows].float().requires_grad_()
            taught = None if teacher is None else teacher[rows]
            loss = self._loss(own, wanted[rows], taught) * (weight * len(own) / len(wanted))
            self._backward(loss)
            gradient[rows] = cast(Tensor, own.grad)
            total += loss.detach()
        self._backward(logits, gradient)
        return total

    def _loss(self, logits: Tensor, wanted: Tensor, teacher: Tensor | None) -> Tensor:
        spec = self.spec
        return self.task.loss(
            logits, wanted, teacher, spec.teacher_share, spec.temperature, spec.divergence
        )

    def _backward(self, outputs: Tensor, gradient: Tensor | None = None) -> None:
        """Run backward as torch asks for it, outside of autocast, while its casts are kept."""
        with torch.autocast(outputs.device.type, enabled=False):
            outputs.backward(gradient)  # type: ignore[no-untyped-call]


def _joined(gradients: list[Tensor]) -> Tensor:
    return gradients[0] if len(gradients) == 1 else torch.cat(gradients)
