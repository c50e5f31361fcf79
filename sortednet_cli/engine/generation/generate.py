"""The command `generate`: complete prompts, or measure the early-exit thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sortednet_cli.engine.generation import DecodingStats
from sortednet_cli.engine.generation.generator import Answer, Generator
from sortednet_cli.engine.generation.thresholds import measure_thresholds
from sortednet_cli.engine.requests import CalibrateRequest, GenerateRequest
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.machine.cuda_graphs import check_graphs
from sortednet_cli.machine.device import choose_device
from sortednet_cli.space import SubModel
from sortednet_cli.storage.exit_thresholds import ExitThresholds, write_thresholds


@dataclass(frozen=True)
class Generation:
    """Completions of prompts, generated while they are read.

    Attributes:
        path: the source's folder.
        submodel: the sub-model that generates.
        answers: each answer with the pieces of its text; read them before the next answer.
        stats: complete once all answers are read.
    """

    path: Path
    submodel: SubModel
    answers: Iterator[tuple[Answer, Iterator[str]]]
    stats: DecodingStats


@dataclass(frozen=True)
class Calibrated:
    """Stored early-exit thresholds.

    Attributes:
        path: the source's folder.
        submodel: the sub-model whose exits were measured.
        file: the file that holds the thresholds.
        thresholds: the thresholds.
    """

    path: Path
    submodel: SubModel
    file: Path
    thresholds: ExitThresholds


def generate(source: Source, request: GenerateRequest) -> Generation:
    """Make a decoder for the request's sub-model and start it on the prompts.

    Raises:
        RequestError: there is no such sub-model, a prompt is empty or too long, the model does not
            support the mode, the device has no CUDA graphs but must have, or nothing compiles the
            model.
        WorkError: the compiler fails.
    """
    submodel = source.space.resolve(request.axes)
    device = choose_device(request.device)
    check_graphs(request.cuda_graphs, device, "--cuda-graphs true")
    generator = Generator(
        source,
        submodel,
        device,
        request.precision,
        request.cuda_graphs,
        request.chat,
        request.compiles,
    )
    encoded = generator.encode(request.prompts)
    strategy = generator.strategy(request.mode, request.draft_depth, request.draft_length)
    answers = generator.answers(
        request.prompts,
        encoded,
        strategy,
        request.max_new_tokens,
        request.sampling,
        request.stops,
    )
    return Generation(source.path, submodel, answers, generator.stats)


def calibrate(source: Source, request: CalibrateRequest) -> Calibrated:
    """Measure the thresholds of a sub-model's exits and write them beside its weights.

    Raises:
        RequestError: there is no such sub-model or data, or the sub-model has no exit.
        WorkError: the validation part has no tokens.
    """
    submodel = source.space.resolve(request.axes)
    data = source.open_data(None if request.data is None else str(request.data))
    device = choose_device(request.device)
    thresholds = measure_thresholds(source, submodel, data, request.agreement, device)
    file = write_thresholds(source.path, submodel, thresholds)
    return Calibrated(source.path, submodel, file, thresholds)
