"""A fixed teacher: a trained network whose logits every sub-model learns from.

Hinton et al., arXiv 1503.02531. It sees the batch that its students see, and it never learns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from sortednet_cli.data import Dataset, ImageFormat, InputFormat
from sortednet_cli.engine.sources.opening import open_source
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.errors import RequestError, listed
from sortednet_cli.families import Inputs
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.storage.pretrained import find_teacher
from sortednet_cli.tasks import Targets, Task
from sortednet_cli.tasks.chunks import training_chunks

if TYPE_CHECKING:
    from sortednet_cli.data.text.texts import Texts

_SAMPLE = "Two texts, one vocabulary: does 1 + 1 give the same tokens?\n"


@dataclass(frozen=True)
class FixedTeacher:
    """The largest sub-model of another source, on the device of the training.

    Attributes:
        network: the source's network.
        scale: what turns an image of this training into one of the teacher's, with `shift`: their
            data were normalised apart. None where both agree.
        shift: what is added then.
    """

    network: NestedNetwork
    scale: Tensor | None = None
    shift: Tensor | None = None

    @torch.no_grad()
    def logits(self, task: Task, inputs: Inputs, targets: Targets) -> list[Tensor]:
        """The logits [N, K] of what is scored of a batch, in chunks of rows."""
        largest = self.network.space.largest
        shared = self.network.shared_pass([largest], training=False)
        if self.scale is not None:
            inputs = torch.addcmul(cast(Tensor, self.shift), cast(Tensor, inputs), self.scale)
        (states,) = shared.states(inputs)
        scored = task.scored(states, targets)
        pieces = training_chunks(len(scored), task.num_outputs)
        return [shared.logits(0, scored[rows]).float() for rows in pieces]


def open_teacher(name: str, data: Dataset, allowed: tuple[str, ...] = ()) -> Source:
    """Open a teacher and check that it answers what its students are asked.

    Args:
        allowed: factories that may run, as `MODULE:NAME`.

    Raises:
        RequestError: it is no finished model, or has another task, other classes, images of
            another form, or another tokenizer.
    """
    place = find_teacher(name)
    try:
        source = open_source(place, allowed)
    except RequestError as error:
        raise RequestError(f"train.teacher: {error}") from error
    own, its = data.format, source.format
    check_inputs(own, its, name)
    if own.classes != its.classes:
        raise RequestError(
            f"train.teacher: {name} has other classes: {_first(its.classes)} instead of"
            f" {_first(own.classes)}"
        )
    if not isinstance(own, ImageFormat):
        _check_tokenizer(cast("Texts", data), source, name)
    return source


def load_teacher(source: Source, data: Dataset, device: torch.device) -> FixedTeacher:
    """Load a teacher's weights."""
    network = source.network(device, channels_last=source.channels_last)
    for parameter in network.module.parameters():
        parameter.requires_grad_(False)
    own, its = data.format, source.format
    if not isinstance(own, ImageFormat) or not isinstance(its, ImageFormat):
        return FixedTeacher(network)
    mean, std, other_mean, other_std = (
        torch.tensor(values, device=device).view(-1, 1, 1)
        for values in (own.mean, own.std, its.mean, its.std)
    )
    if torch.equal(mean, other_mean) and torch.equal(std, other_std):
        return FixedTeacher(network)
    return FixedTeacher(network, std / other_std, (mean - other_mean) / other_std)


def check_inputs(own: InputFormat, its: InputFormat, name: str) -> None:
    """RequestError if a teacher has another task than its students, or cannot take their inputs."""
    if (own.kind, own.task) != (its.kind, its.task):
        raise RequestError(
            f"train.teacher: {name} is for {its.task} of {its.kind}s, not {own.task} of {own.kind}s"
        )
    if isinstance(own, ImageFormat) and isinstance(its, ImageFormat):
        shapes = [(form.channels, form.image_size, form.image_size) for form in (its, own)]
        if shapes[0] != shapes[1]:
            raise RequestError(f"train.teacher: {name} takes images {shapes[0]}, not {shapes[1]}")
    elif its.num_units < own.num_units:
        raise RequestError(
            f"train.teacher: {name} takes {its.num_units} tokens, fewer than data.max_length ="
            f" {own.num_units}"
        )


def _check_tokenizer(data: Texts, source: Source, name: str) -> None:
    from sortednet_cli.data.text.tokenizer import load_tokenizer

    its = load_tokenizer(source.tokenizer)
    same = its.get_vocab() == data.tokenizer.get_vocab()
    if not same or its(_SAMPLE)["input_ids"] != data.tokenizer(_SAMPLE)["input_ids"]:
        raise RequestError(
            f"train.teacher: {name} has another tokenizer, so that its tokens are not those of its"
            " students: train them from the same pretrained model, or on the same texts"
        )


def _first(classes: tuple[str, ...]) -> str:
    shown = listed(classes[:5])
    return shown if len(classes) <= 5 else f"{shown} and {len(classes) - 5} more"
