"""The Python interface: what the commands do, for scripts and notebooks. Nothing is printed.

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
from sortednet_cli.errors import RequestError
from sortednet_cli.spec import RunSpec, load_preset, load_spec_file

if TYPE_CHECKING:
    from sortednet_cli.engine import Frontier, Row

Axes = Mapping[str, "int | float"]


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
    """Train a run to its end.

    Args:
        preset: its name; or give `config`, a spec file in TOML.
        settings: spec keys with their values, such as `{"train.lr": 0.05}`.
        data: a data folder, or a tar of one.
        out: the run's folder; `runs/NAME` or the next free name by default.
        on_event: is told of every event; `sortednet_cli.engine.train` yields them.

    Returns:
        The run's folder.

    Raises:
        RequestError: the request is wrong; nothing was written.
        WorkError: training diverged, memory ran out, or the folder cannot be written.
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


def evaluate(
    path: Path | str,
    axes: Axes | None = None,
    *,
    split: str = "test",
    data: Path | str | None = None,
    device: str = "auto",
    allow_factory: Sequence[str] = (),
) -> list[Row]:
    """Score a sub-model of a run or an artifact, or all of them.

    Args:
        axes: of the sub-model, the largest value on every other axis; None for all sub-models.
        split: `train`, `validation` or `test`.

    Returns:
        One row for each, from the smallest.

    Raises:
        RequestError: there is no such source, sub-model or data.
    """
    source = SourceRequest(Path(path), tuple(allow_factory))
    found = engine.evaluate(
        EvaluateRequest(source, axes or {}, axes is None, split, _path(data), device)
    )
    return [] if found is None else found.rows


def frontier(
    path: Path | str,
    *,
    cost: str = "macs",
    limits: Mapping[str, str | float] | None = None,
    device: str = "auto",
    allow_factory: Sequence[str] = (),
) -> Frontier:
    """Mark the sub-models that no other beats on both validation score and a cost.

    Args:
        cost: `params`, `macs`, `size_mb`, `memory_mb`, `latency_ms` or another package's.
        limits: the most of each cost by its name; `chosen` is the best sub-model within all.

    Raises:
        RequestError: there is no such run or cost, or nothing fits.
    """
    source = SourceRequest(Path(path), tuple(allow_factory))
    return engine.frontier(FrontierRequest(source, cost, limits or {}, device=device))


def extract(
    path: Path | str,
    axes: Axes | None = None,
    *,
    limits: Mapping[str, str | float] | None = None,
    out: Path | str | None = None,
    file_format: str = "safetensors",
    data: Path | str | None = None,
    device: str = "auto",
    allow_factory: Sequence[str] = (),
) -> Path:
    """Cut a sub-model out as a standalone model, by its axes or by limits.

    Args:
        out: the artifact's folder; `artifacts/RUN-SUBMODEL` or the next free name by default.
        file_format: `safetensors`, or a format to be written beside it.

    Returns:
        The artifact's folder.

    Raises:
        RequestError: there is no such source, sub-model or format, or nothing fits.
        WorkError: a check failed; nothing is left behind.
    """
    request = ExtractRequest(
        SourceRequest(Path(path), tuple(allow_factory)),
        axes or {},
        limits or {},
        _path(out),
        file_format,
        data=_path(data),
        device=device,
    )
    return engine.extract(request).done.path


def _spec(
    preset: str | None,
    config: Path | str | None,
    settings: Mapping[str, Any],
    data: Path | str | None,
) -> RunSpec:
    if (preset is None) == (config is None):
        raise RequestError("give one of a preset's name and config")
    overrides = [f"{key}={_value(value)}" for key, value in settings.items()]
    if data is not None:
        overrides.append(f"data.path={data}")
    if preset is not None:
        return load_preset(preset, overrides)
    assert config is not None
    return load_spec_file(Path(config), overrides)


def _value(value: Any) -> str:
    """A value as an override is written: TOML, of which JSON's scalars and lists are a part."""
    return value if isinstance(value, str) else json.dumps(value)


def _path(path: Path | str | None) -> Path | None:
    return None if path is None else Path(path)
