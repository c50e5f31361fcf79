"""A sub-model in an export format, without an artifact around it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sortednet_cli.engine.evaluation.latency import median_ms
from sortednet_cli.engine.export.formats import Format
from sortednet_cli.engine.export.further import call, compare, write_and_open
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.errors import RequestError
from sortednet_cli.families import Inputs
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.space import SubModel

_TRACED = 2
"""Samples that a model is traced with: torch takes a batch of one for a constant."""


def write_alone(
    source: Source, network: NestedNetwork, submodel: SubModel, file_format: Format, folder: Path
) -> None:
    """Write the file of a sub-model into a folder, and compare its outputs with the sub-model's.

    They are compared for the inputs that are traced, and for one sample. A lossy format is written
    from noise instead of training data, which changes no time, and is not compared.

    Raises:
        RequestError: the format cannot hold the sub-model.
        WorkError: they differ.
    """
    module, inputs = _plain(source, network, submodel)
    run = write_and_open(module, inputs, folder / file_format.file, file_format)
    if run is not None and not file_format.lossy:
        for each in (inputs, _inputs(source, 1)):
            with torch.no_grad():
                logits = call(module, each)
            compare(file_format, run(each), logits)


def exported_latency_ms(
    source: Source, network: NestedNetwork, submodel: SubModel, file_format: Format, file: Path
) -> float:
    """Measure the median time of a pass of the exported sub-model in its runtime, at batch size 1.

    Args:
        file: where to write the sub-model.

    Returns:
        Milliseconds.

    Raises:
        RequestError: the format cannot hold the sub-model, or its runtime does not run here.
    """
    module, inputs = _plain(source, network, submodel)
    run = write_and_open(module, inputs, file, file_format, torch.get_num_threads())
    if run is None:
        raise RequestError(
            f"nothing here runs {file_format.runtime}: give --runtime torch, or --latencies that a"
            " device measured"
        )
    one = _inputs(source, 1)
    with torch.no_grad():
        return median_ms(lambda: run(one))


def _plain(source: Source, network: NestedNetwork, submodel: SubModel) -> tuple[nn.Module, Inputs]:
    """Return the standalone sub-model as formats take it, and inputs to trace it with."""
    module = source.family.logits_module(network.standalone(submodel))
    return module, _inputs(source, _TRACED)


def _inputs(source: Source, count: int) -> Inputs:
    """Make random inputs at the task's input size, as formats take them."""
    return source.family.logits_inputs(source.format.random_inputs(count))
