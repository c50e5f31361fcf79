"""The further file of an artifact: what it is written from, and what it is compared on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from sortednet_cli.data import Dataset, InputFormat, TextFormat
from sortednet_cli.engine.export.formats import Exported, Format
from sortednet_cli.engine.export.score_run import score_run
from sortednet_cli.engine.export.unable import told_operations
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.errors import RequestError, WorkError, reason_of
from sortednet_cli.families import Inputs
from sortednet_cli.seeds import stream_seed
from sortednet_cli.storage.artifact import ArtifactFolder

if TYPE_CHECKING:
    from sortednet_cli.engine.export.formats.base import Run

CPU = torch.device("cpu")

NUM_OTHERS = 3
"""Inputs for the second comparison, in which texts are padded."""

OTHER_TOKENS = 45
"""Most tokens of each of these, if they are texts."""

NUM_CALIBRATION = 256
"""Training images that a lossy format is written from."""

NUM_COMPARED = 32
"""Validation samples on which a lossy format is compared."""


def export(
    source: Source,
    module: nn.Module,
    inputs: Inputs,
    data: Dataset | None,
    folder: ArtifactFolder,
    further: Format,
) -> Exported:
    """Write the further file, and compare its outputs with the artifact's.

    They are compared for the artifact's inputs, which are traced, and for another number of
    samples; texts have another length too, and padding. A lossy format is written from training
    data, compared on validation data, and scored there.

    Args:
        module: the artifact as its loader made it.
        inputs: the artifact's inputs.
        data: needed only if the format is lossy.

    Raises:
        RequestError: the format cannot hold the model.
        WorkError: the outputs differ by more than the format's tolerance, or there is no file.
    """
    family = source.family
    plain = family.logits_module(module)
    pair = (inputs, _other_inputs(source.format)) if data is None else _data_inputs(data, further)
    traced, other = (family.logits_inputs(each) for each in pair)
    run = write_and_open(plain, traced, folder.path / further.file, further)
    names = tuple(traced) if isinstance(traced, dict) else ("inputs",)
    size = sum(path.stat().st_size for path in further.files(folder.path))
    exported = Exported(further.name, further.file, size, further.runtime, None, 0, names)
    if run is None:
        return exported
    differences, samples = [], 0
    for each in (traced, other):
        with torch.no_grad():
            logits = call(plain, each)
        differences.append(compare(further, run(each), logits))
        samples += len(logits)
    exported = replace(exported, max_abs_diff=max(differences), samples=samples)
    if data is None:
        return exported
    runs: dict[str, Run] = {"file": run, "float": partial(call, plain)}
    scores = {name: score_run(source, data, each) for name, each in runs.items()}
    return replace(exported, validation=scores)


def write_and_open(
    module: nn.Module, traced: Inputs, file: Path, further: Format, threads: int = 1
) -> Run | None:
    """Write a file, and return what runs it; None if nothing here can.

    Raises:
        RequestError: the format cannot hold the model.
        WorkError: there is no file, or its runtime cannot read it.
    """
    with told_operations(further, module, traced):
        run = further.write(module, traced, file)
    if not file.exists():
        raise WorkError(f"verification failed: the format {further.name!r} wrote no {file.name}")
    if run is not None:
        return run
    try:
        return further.open(file, threads)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # whatever the runtime raises
        raise WorkError(
            f"verification failed: {further.runtime} cannot read {file.name}: {reason_of(error)}"
        ) from error


def compare(further: Format, actual: Tensor, logits: Tensor) -> float:
    """Return the largest difference from an artifact's logits; WorkError if it is too large."""
    if getattr(actual, "shape", None) != logits.shape:
        raise WorkError(
            f"verification failed: {further.file} gives no logits of shape {list(logits.shape)}"
        )
    difference = float((actual.detach() - logits).abs().max())
    allowed = further.tolerance * max(1.0, float(logits.abs().max()))
    if not difference <= allowed:  # also true if the difference is NaN
        raise WorkError(
            f"verification failed: the outputs of {further.file} differ by {difference:g}"
        )
    return difference


def call(module: nn.Module, inputs: Inputs) -> Tensor:
    """Call a module of `Family.logits_module`."""
    logits: Tensor = module(**inputs) if isinstance(inputs, dict) else module(inputs)
    return logits


def _data_inputs(data: Dataset, further: Format) -> tuple[Inputs, Inputs]:
    """Return training samples to write a lossy format from, and validation samples to compare."""
    if not len(data.validation):
        raise RequestError(f"--format {further.name} needs validation data, to measure its score")
    count = NUM_CALIBRATION if data.format.kind == "image" else NUM_OTHERS
    parts = ((data.train, count), (data.validation, NUM_COMPARED))
    first, second = (next(iter(part.batches(size, CPU)))[0] for part, size in parts)
    return first, second


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
