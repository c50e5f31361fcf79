"""What the commands ask of the engine: one frozen request each. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sortednet_cli.spec import RunSpec

Axes = Mapping[str, int | float]


@dataclass(frozen=True)
class TrainRequest:
    """Train a new run of a spec, or go on with a run.

    Attributes:
        spec: of a new run; None to resume.
        out: the new run's folder; None for `runs/NAME`, or the next free name.
        resume: the run to go on with; None for the newest unfinished one. Only without `spec`.
        allow_factories: model code of a resumed run that may be run.
        device: as `--device` takes it.
    """

    spec: RunSpec | None = None
    out: Path | None = None
    resume: Path | None = None
    allow_factories: tuple[str, ...] = ()
    device: str = "auto"


@dataclass(frozen=True)
class SourceRequest:
    """What sub-models are cut out of.

    Attributes:
        path: a run, an artifact or a stock checkpoint; None for the newest finished run.
        allow_factories: model code that may be run.
    """

    path: Path | None = None
    allow_factories: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluateRequest:
    """Score one sub-model, or all of them.

    Attributes:
        axes: of the sub-model; an axis that is not named has its largest value.
        every: score all sub-models; `axes` is empty then.
        split: `train`, `validation` or `test`.
        data: where the data lie, if not where the run's own were.
    """

    source: SourceRequest = field(default_factory=SourceRequest)
    axes: Axes = field(default_factory=dict)
    every: bool = False
    split: str = "test"
    data: Path | None = None
    device: str = "auto"


@dataclass(frozen=True)
class SamplingOptions:
    """How tokens are drawn.

    Attributes:
        temperature: positive; larger ones flatten the distribution.
        top_p: only the likeliest tokens with this much probability together are drawn from.
        seed: of drawing.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class GenerateRequest:
    """Continue texts with a sub-model.

    Attributes:
        mode: `greedy`, `early-exit` or `speculative`.
        draft_depth: layers that draft, in the mode `speculative`; None finds them while decoding.
        draft_length: tokens of a draft; None adapts it.
        stops: texts before which a completion ends.
        sampling: None takes the best token each time.
        precision: of weights and cache, `fp32` or `bf16`.
    """

    prompts: tuple[str, ...]
    source: SourceRequest = field(default_factory=SourceRequest)
    axes: Axes = field(default_factory=dict)
    mode: str = "greedy"
    draft_depth: int | None = None
    draft_length: int | None = None
    max_new_tokens: int = 128
    stops: tuple[str, ...] = ()
    sampling: SamplingOptions | None = None
    precision: str = "fp32"
    device: str = "auto"


@dataclass(frozen=True)
class CalibrateRequest:
    """Measure and store the thresholds of early exit.

    Attributes:
        agreement: the least share of tokens leaving at an exit that the whole model agrees with.
        data: whose validation part is measured, if not the run's own.
    """

    source: SourceRequest = field(default_factory=SourceRequest)
    axes: Axes = field(default_factory=dict)
    agreement: float = 0.99
    data: Path | None = None
    device: str = "auto"


Limits = Mapping[str, "str | float"]
"""The most of each cost by its name: a number, or text as its option takes it."""


@dataclass(frozen=True)
class FrontierRequest:
    """Mark the sub-models that no other beats on both validation score and a cost.

    Attributes:
        cost: the name of what a score costs.
        limits: choose the best sub-model within all of them.
        plot: a picture to draw, `.svg` or `.png`.
    """

    source: SourceRequest = field(default_factory=SourceRequest)
    cost: str = "macs"
    limits: Limits = field(default_factory=dict)
    plot: Path | None = None
    device: str = "auto"


@dataclass(frozen=True)
class ExtractRequest:
    """Cut a sub-model out as an artifact.

    Attributes:
        axes: of the sub-model; or name none, and give `limits`.
        limits: take the sub-model with the best validation score within all of them.
        out: the artifact's folder; None for `artifacts/RUN-SUBMODEL`, or the next free name.
        file_format: `safetensors`, or a format to be written beside it.
        max_shard_bytes: larger weights are written as several files.
        verify: `tensors`; `outputs` too; or `auto`, which decides by the size of the weights.
        data: where the data lie, if not where the run's own were.
        device: that a limit on latency is measured on.
    """

    source: SourceRequest = field(default_factory=SourceRequest)
    axes: Axes = field(default_factory=dict)
    limits: Limits = field(default_factory=dict)
    out: Path | None = None
    file_format: str = "safetensors"
    max_shard_bytes: int = 5_000_000_000
    verify: str = "auto"
    data: Path | None = None
    device: str = "auto"
