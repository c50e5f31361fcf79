"""The further file of an artifact: what it is written from, and what it is compared on."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn

from sortednet_cli.data import InputFormat, TextFormat
from sortednet_cli.engine.export.formats import Exported, Format
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.families import Inputs
from sortednet_cli.seeds import stream_seed
from sortednet_cli.storage.artifact import ArtifactFolder

NUM_OTHERS = 3
"""Inputs for the second comparison, in which texts are padded."""

OTHER_TOKENS = 45
"""Most tokens of each of these, if they are texts."""


def export(
    source: Source, module: nn.Module, inputs: Inputs, folder: ArtifactFolder, further: Format
) -> Exported:
    """Write the further file, and compare its outputs with the artifact's.

    They are compared for the artifact's inputs, which are traced, and for another number of
    samples; texts have another length too, and padding.

    Args:
        module: the artifact as its loader made it.
        inputs: the artifact's inputs.

    Raises:
        RequestError: the format cannot hold the model.
        WorkError: the outputs differ.
    """
    family = source.family
    plain = family.logits_module(module)
    shapes = [family.logits_inputs(each) for each in (inputs, _other_inputs(source.format))]
    with torch.no_grad():
        samples = [(each, call(plain, each)) for each in shapes]
    return further.export(plain, samples, folder.path)


def call(module: nn.Module, inputs: Inputs) -> Tensor:
    """Call a module of `Family.logits_module`."""
    logits: Tensor = module(**inputs) if isinstance(inputs, dict) else module(inputs)
    return logits


def _other_inputs(inputs: InputFormat) -> Inputs:
    """Make random samples of another number; texts are padded as data pad them."""
    made = inputs.random_inputs(NUM_OTHERS, Generator().manual_seed(stream_seed("other")))
    if not isinstance(inputs, TextFormat):
        return made
    assert isinstance(made, dict)
    return dict(_padded(made["input_ids"][:, :OTHER_TOKENS], inputs.pad_id))


def _padded(ids: Tensor, pad_id: int) -> Iterator[tuple[str, Tensor]]:
    """Pad the end of every text but the longest, each to another length."""
    length = ids.shape[1]
    lengths = torch.linspace(length, max(1, length // 2), len(ids)).long()
    inside = torch.arange(length) < lengths[:, None]
    yield "input_ids", ids.masked_fill(~inside, pad_id)
    yield "attention_mask", inside.long()
