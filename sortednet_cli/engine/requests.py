"""Requests to the engine, one frozen class per command, and progress reports. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sortednet_cli.spec import RunSpec

Axes = Mapping[str, int | float]

Progress = Callable[[str, int, int, str], None]
"""Reports progress: takes the name of the work, steps done, all steps, and the last step's name."""


def no_progress(work: str, done: int, total: int, part: str) -> None:
    """Ignore progress."""


@dataclass(frozen=True)
class TrainRequest:
    """Train a new run of a spec, or resume a run.

    Attributes:
        spec: the spec of a new run; None to resume.
        out: the new run's folder; None for `runs/NAME`, or the next free name.
        resume: the run to resume, if `spec` is None; None for the newest unfinished run.
        allow_factories: factories that a resumed run or a teacher may run, as `MODULE:NAME`.
        device: as `--device` takes it.
    """

    spec: RunSpec | None = None
    out: Path | None = None
    resume: Path | None = None
    allow_factories: tuple[str, ...] = ()
    device: str = "auto"


@dataclass(frozen=True)
class DraftRequest:
    """Look at a model and data, and write a spec that trains them.

    Attributes:
        model: a folder, a file, a hub name, `package:NAME/FOLDER`, a name of timm or torchvision,
            or a factory as `MODULE:NAME`.
        data: data folder or file; None for texts that every installation has.
        out: the spec's file.
        force: whether to replace it.
        measure: whether to measure ten updates.
        allow_factories: factories that may run, as `MODULE:NAME`.
        device: as `--device` takes it.
    """

    model: str
    data: Path | None = None
    out: Path = Path("spec.toml")
    force: bool = False
    measure: bool = False
    allow_factories: tuple[str, ...] = ()
    device: str = "auto"


@dataclass(frozen=True)
class SourceRequest:
    """The source of sub-models.

    Attributes:
        path: a run, an artifact or a stock checkpoint; None for the newest finished run.
        allow_factories: factories that it may run, as `MODULE:NAME`.
    """

    path: Path | None = None
    allow_factories: tuple[str, ...] = ()


@dataclass(frozen=True)
class HarnessRequest:
    """Tasks of lm-eval to score sub-models on.

    Attributes:
        tasks: names of tasks or groups, or paths of YAML files that describe one.
        path: folder with further tasks.
        limit: most samples of each task; None for all.
        chat: whether questions are put in the tokenizer's chat template.
    """

    tasks: tuple[str, ...]
    path: Path | None = None
    limit: int | None = None
    chat: bool = False


@dataclass(frozen=True)
class EvaluateRequest:
    """Score one sub-model, or all of them.

    Attributes:
        axes: axis values of the sub-model; an axis that is left out has its largest value.
        every: whether to score all sub-models; `axes` must be empty then.
        split: part of the data: `train`, `validation` or `test`.
        data: data folder, or a tar of one; None for the run's own data.
        device: as `--device` takes it.
        min_score: the worst score that is good enough for each sub-model; None for any.
        junit: JUnit file to write.
        harness: tasks of lm-eval to score on, in place of the data.
    """

    source: SourceRequest = field(default_factory=SourceRequest)
    axes: Axes = field(default_factory=dict)
    every: bool = False
    split: str = "test"
    data: Path | None = None
    device: str = "auto"
    min_score: float | None = None
    junit: Path | None = None
    harness: HarnessRequest | None = None


@dataclass(frozen=True)
class SamplingOptions:
    """How tokens are sampled.

    Attributes:
        temperature: positive; a larger value flattens the distribution.
        top_p: total probability of the most likely tokens to sample from, in (0, 1].
        seed: seed for sampling.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class GenerateRequest:
    """Continue texts with a sub-model.

    Attributes:
        prompts: the texts to continue.
        axes: axis values of the sub-model; an axis that is left out has its largest value.
        mode: `greedy`, `early-exit` or `speculative`.
        draft_depth: number of layers that draft in mode `speculative`; 0 copies drafts from the
            text so far and from training texts; None chooses while decoding.
        draft_length: number of tokens per draft; None adapts it while decoding.
        max_new_tokens: most new tokens per prompt.
        chat: whether a prompt is a user's turn in the tokenizer's chat template; None: as in the
            training.
        stops: texts before which a completion ends.
        sampling: None takes the most likely token each time.
        precision: precision of the weights: `fp32`, `fp16` or `bf16`.
        cuda_graphs: whether passes are replayed as CUDA graphs; "auto" where that can be done.
        compiles: whether passes of one position are compiled.
        device: as `--device` takes it.
    """

    prompts: tuple[str, ...]
    source: SourceRequest = field(default_factory=SourceRequest)
    axes: Axes = field(default_factory=dict)
    mode: str = "greedy"
    draft_depth: int | None = None
    draft_length: int | None = None
    max_new_tokens: int = 128
    chat: bool | None = None
    stops: tuple[str, ...] = ()
    sampling: SamplingOptions | None = None
    precision: str = "fp32"
    cuda_graphs: bool | Literal["auto"] = "auto"
    compiles: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class ServeRequest:
    """Answer HTTP requests for every sub-model of a source.

    Attributes:
        host: address to listen on.
        port: port to listen on; 0 for a free one.
        max_active: most requests that are worked on at once, over all sizes.
        max_queue: most requests that wait beyond these.
        max_tokens: most new tokens that a request may ask for; None for the model's context.
        grace_seconds: how long running requests may take to end once the server is to stop.
        api_key: the key that requests must bring; None for no check.
        device: as `--device` takes it.
    """

    source: SourceRequest = field(default_factory=SourceRequest)
    host: str = "127.0.0.1"
    port: int = 8000
    max_active: int = 32
    max_queue: int = 256
    max_tokens: int | None = None
    grace_seconds: float = 30.0
    api_key: str | None = field(default=None, repr=False)
    device: str = "auto"


@dataclass(frozen=True)
class CalibrateRequest:
    """Measure and store the early-exit thresholds.

    Attributes:
        axes: axis values of the sub-model; an axis that is left out has its largest value.
        agreement: of the tokens that leave at an exit, the least share that the whole model must
            predict too, in (0, 1].
        data: data with the validation part to measure on; None for the run's own data.
        device: as `--device` takes it.
    """

    source: SourceRequest = field(default_factory=SourceRequest)
    axes: Axes = field(default_factory=dict)
    agreement: float = 0.99
    data: Path | None = None
    device: str = "auto"


Limits = Mapping[str, "str | float"]
"""Upper bounds by the name of the cost: a number, or text as the cost's option takes it."""


@dataclass(frozen=True)
class FrontierRequest:
    """Mark the sub-models that no other beats on both validation score and a cost.

    Attributes:
        cost: name of the cost to weigh against the score.
        limits: bounds within which to choose the best sub-model.
        plot: `.svg` or `.png` file to plot to, or `.html` file for the page of a report.
        device: device on which costs are measured, as `--device` takes it.
        min_score: the worst score that is good enough for the best sub-model within the limits;
            None for any.
        junit: JUnit file to write.
        runtime: what latencies are measured in: `torch`, which None means too, or the runtime of
            an export format.
        latencies: JSON file of latencies that another device measured; none are measured here.
    """

    source: SourceRequest = field(default_factory=SourceRequest)
    cost: str = "macs"
    limits: Limits = field(default_factory=dict)
    plot: Path | None = None
    device: str = "auto"
    min_score: float | None = None
    junit: Path | None = None
    runtime: str | None = None
    latencies: Path | None = None


@dataclass(frozen=True)
class ReportRequest:
    """Write a page that shows the sub-models of runs.

    Attributes:
        paths: runs or artifacts of one metric; empty for the newest finished run.
        costs: names of costs to get besides those that need no forward pass.
        out: the `.html` file; None for `report.html`, or the next free name.
        allow_factories: factories that the runs may run, as `MODULE:NAME`.
        device: device on which costs are measured, as `--device` takes it.
    """

    paths: tuple[Path, ...] = ()
    costs: tuple[str, ...] = ()
    out: Path | None = None
    allow_factories: tuple[str, ...] = ()
    device: str = "auto"


@dataclass(frozen=True)
class PushRequest:
    """Send an artifact to the Hugging Face Hub.

    Attributes:
        path: the artifact's folder.
        repository: `user/name` on the hub.
        private: whether a new repository is private.
        revision: branch to push to; None for `main`.
        message: message of the commit; None for the names of run and sub-model.
        dry_run: whether only to say what would be sent.
        bars: whether the hub's client may draw progress bars on stderr.
    """

    path: Path
    repository: str
    private: bool = False
    revision: str | None = None
    message: str | None = None
    dry_run: bool = False
    bars: bool = False


@dataclass(frozen=True)
class ExtractRequest:
    """Cut a sub-model out as an artifact.

    Attributes:
        axes: axis values of the sub-model; must be empty if `limits` are given.
        limits: bounds within which to choose the sub-model with the best validation score.
        out: the artifact's folder; None for `artifacts/RUN-SUBMODEL`, or the next free name.
        file_format: `safetensors`, or a further format to write beside it.
        max_shard_bytes: most bytes of one weight file; larger weights are split.
        verify: what to compare: `tensors`, `outputs` (and tensors), or `auto`, which compares
            outputs unless the weights are large.
        data: data folder, or a tar of one; None for the run's own data.
        device: device on which bounded costs are measured, as `--device` takes it.
        runtime: what latencies are measured in: `torch`, or the runtime of an export format; None
            for that of `file_format`.
        latencies: JSON file of latencies that another device measured; none are measured here.
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
    runtime: str | None = None
    latencies: Path | None = None


@dataclass(frozen=True)
class BenchPackRequest:
    """Write a folder with which another device measures the latency of every sub-model.

    Attributes:
        file_format: export format of the sub-models' files.
        out: the folder; None for `bench-packs/RUN-FORMAT`, or the next free name.
        max_total_bytes: most bytes of all weights together.
    """

    source: SourceRequest = field(default_factory=SourceRequest)
    file_format: str = "onnx"
    out: Path | None = None
    max_total_bytes: int = 4_000_000_000
