"""The Python API: the commands as functions, for scripts and notebooks. Nothing is printed.

from sortednet_cli import extract, frontier, load_artifact, train

run = train("digits-resnet", {"train.epochs": 20})
best = frontier(run, limits={"params": 50_000}).chosen
folder = extract(run, best.submodel.axes)
model = load_artifact(folder).module()
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sortednet_cli import engine
from sortednet_cli.engine import (
    EvaluateRequest,
    Event,
    ExtractRequest,
    Finished,
    FrontierRequest,
    SourceRequest,
    TrainRequest,
)
from sortednet_cli.errors import RequestError, naming_arguments
from sortednet_cli.spec import RunSpec, load_preset, load_spec_file

if TYPE_CHECKING:
    from sortednet_cli.engine import Frontier, Row

Axes = Mapping[str, "int | float"]


@naming_arguments()
def train(
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    config: Path | str | None = None,
    data: Path | str | None = None,
    out: Path | str | None = None,
    device: str = "auto",
    on_event: Callable[[Event], object] | None = None,
) -> Path:
    """Train a nested network from a preset or a spec file.

    Args:
        preset: name of a preset. Give either `preset` or `config`.
        settings: spec keys to override with their values, such as `{"train.lr": 0.05}`.
        config: spec file in TOML.
        data: data folder, or a tar of one.
        out: the run's folder; by default `runs/NAME`, or the next free name.
        device: device to compute on, as `--device` takes it.
        on_event: called with each event: `Started`, then `Updated` from time to time, `Scored` for
            each sub-model, and `Finished`.

    Returns:
        The run's folder.

    Raises:
        RequestError: the request is wrong; nothing was written.
        WorkError: training diverged, memory ran out, or the folder could not be written.
    """
    spec = _spec(preset, config, settings or {}, data)
    finished = None
    for event in engine.train(
        TrainRequest(spec, None if out is None else Path(out), device=device)
    ):
        if on_event is not None:
            on_event(event)
        finished = event
    assert isinstance(finished, Finished)
    return finished.run


@naming_arguments()
def evaluate(
    path: Path | str,
    axes: Axes | None = None,
    *,
    split: str = "test",
    data: Path | str | None = None,
    device: str = "auto",
    allow_factory: Sequence[str] = (),
) -> list[Row]:
    """Score one sub-model of a run or an artifact, or all of them.

    Args:
        path: a run, an artifact or a stock checkpoint.
        axes: axis values of the sub-model, `{}` for the largest; an axis that is left out has its
            largest value. None scores all sub-models.
        split: part of the data: `train`, `validation` or `test`.
        data: data folder, or a tar of one; by default the run's own data.
        device: device to compute on, as `--device` takes it.
        allow_factory: factories that a custom run or artifact may run, as `MODULE:NAME`.

    Returns:
        One row per sub-model, from the smallest.

    Raises:
        RequestError: there is no such source, sub-model, part or data.
    """
    source = SourceRequest(Path(path), tuple(allow_factory))
    evaluation = engine.evaluate(
        EvaluateRequest(source, axes or {}, axes is None, split, _path(data), device)
    )
    return [] if evaluation is None else evaluation.rows


@naming_arguments()
def frontier(
    path: Path | str,
    *,
    cost: str = "macs",
    limits: Mapping[str, str | float] | None = None,
    runtime: str | None = None,
    latencies: Path | str | None = None,
    device: str = "auto",
    allow_factory: Sequence[str] = (),
) -> Frontier:
    """Mark the sub-models that no other beats on both validation score and a cost.

    Args:
        path: a finished run, or an artifact.
        cost: `params`, `macs`, `size_mb`, `memory_mb`, `latency_ms`, or a cost that another
            package registers.
        limits: upper bounds by the name of the cost. The result's `chosen` is the best sub-model
            within all of them.
        runtime: what latencies are measured in: `torch`, or an export format's runtime, such as
            `onnxruntime`.
        latencies: file of latencies that another device measured; none are measured here.
        device: device on which costs are measured, as `--device` takes it.
        allow_factory: factories that a custom run or artifact may run, as `MODULE:NAME`.

    Raises:
        RequestError: there is no such run or cost, or no sub-model is within the limits.
    """
    source = SourceRequest(Path(path), tuple(allow_factory))
    request = FrontierRequest(
        source,
        cost,
        limits or {},
        device=device,
        runtime=runtime,
        latencies=_path(latencies),
    )
    return engine.frontier(request)


@naming_arguments()
def extract(
    path: Path | str,
    axes: Axes | None = None,
    *,
    limits: Mapping[str, str | float] | None = None,
    out: Path | str | None = None,
    file_format: str = "safetensors",
    data: Path | str | None = None,
    runtime: str | None = None,
    latencies: Path | str | None = None,
    device: str = "auto",
    allow_factory: Sequence[str] = (),
) -> Path:
    """Cut a sub-model out as a standalone model, chosen by its axes or by limits.

    Args:
        path: a run, an artifact or a stock checkpoint.
        axes: axis values of the sub-model; an axis that is left out has its largest value.
        limits: upper bounds by the name of the cost; the best sub-model within all of them is cut
            out. Do not give both `axes` and `limits`.
        out: the artifact's folder; by default `artifacts/RUN-SUBMODEL`, or the next free name.
        file_format: `safetensors`, or a further format to write beside it.
        data: data folder, or a tar of one; by default the run's own data.
        runtime: what latencies are measured in: `torch`, or an export format's runtime; by default
            that of `file_format`.
        latencies: file of latencies that another device measured; none are measured here.
        device: device on which costs are measured, as `--device` takes it.
        allow_factory: factories that a custom run or artifact may run, as `MODULE:NAME`.

    Returns:
        The artifact's folder.

    Raises:
        RequestError: there is no such source, sub-model or format, or no sub-model is within the
            limits.
        WorkError: verification failed; nothing is left behind.
    """
    request = ExtractRequest(
        SourceRequest(Path(path), tuple(allow_factory)),
        axes or {},
        limits or {},
        _path(out),
        file_format,
        data=_path(data),
        device=device,
        runtime=runtime,
        latencies=_path(latencies),
    )
    return engine.extract(request).artifact.path


def _spec(
    preset: str | None,
    config: Path | str | None,
    settings: Mapping[str, Any],
    data: Path | str | None,
) -> RunSpec:
    if (preset is None) == (config is None):
        raise RequestError("give either preset or config")
    overrides = [f"{key}={_value(value)}" for key, value in settings.items()]
    if data is not None:
        overrides.append(f"data.path={data}")
    if preset is not None:
        return load_preset(preset, overrides)
    assert config is not None
    return load_spec_file(Path(config), overrides)


def _value(value: Any) -> str:
    """Format a value for an override, which is TOML; JSON scalars and lists are valid TOML."""
    return value if isinstance(value, str) else json.dumps(value)


def _path(path: Path | str | None) -> Path | None:
    return None if path is None else Path(path)
