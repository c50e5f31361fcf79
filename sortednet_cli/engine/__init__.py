"""The engine's interface: one function per command, with a typed request and a typed result.

Importing it imports no torch. Each function checks all that it can before it imports torch, so that
a wrong request fails at once. Nothing here prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sortednet_cli import launch
from sortednet_cli.engine.checks import (
    check_draft,
    check_file,
    check_harness,
    check_min_score,
    check_place,
    check_plot,
    check_report,
    check_serving,
    check_split,
    is_page,
    newest_finished,
    open_allowed,
    open_source,
    read_stored,
    unfinished_spec,
)
from sortednet_cli.engine.requests import (
    BenchPackRequest,
    CalibrateRequest,
    DraftRequest,
    EvaluateRequest,
    ExtractRequest,
    FrontierRequest,
    GenerateRequest,
    HarnessRequest,
    Progress,
    PushRequest,
    ReportRequest,
    SamplingOptions,
    ServeRequest,
    SourceRequest,
    TrainRequest,
    no_progress,
)
from sortednet_cli.engine.training.events import (
    Event,
    Finished,
    Interrupted,
    Scored,
    Started,
    Updated,
)
from sortednet_cli.errors import RequestError, SortednetError
from sortednet_cli.logs import logger
from sortednet_cli.spec import RunSpec

if TYPE_CHECKING:
    from sortednet_cli.engine.drafting.draft import Draft as Draft
    from sortednet_cli.engine.evaluation.costs import Conditions as Conditions
    from sortednet_cli.engine.evaluation.costs import Cost as Cost
    from sortednet_cli.engine.evaluation.evaluate import Evaluation as Evaluation
    from sortednet_cli.engine.evaluation.frontier import CostProgress
    from sortednet_cli.engine.evaluation.frontier import Frontier as Frontier
    from sortednet_cli.engine.export.formats import Exported as Exported
    from sortednet_cli.engine.export.push import Push as Push
    from sortednet_cli.engine.export.request import Extraction as Extraction
    from sortednet_cli.engine.export.verify import Verification as Verification
    from sortednet_cli.engine.generation import DecodingStats as DecodingStats
    from sortednet_cli.engine.generation.generate import Calibrated as Calibrated
    from sortednet_cli.engine.generation.generate import Generation as Generation
    from sortednet_cli.engine.packing.pack import BenchPack as BenchPack
    from sortednet_cli.engine.planning.resources import ResourcePlan as ResourcePlan
    from sortednet_cli.engine.serving.serve import Serving as Serving
    from sortednet_cli.engine.sources.describe import Description as Description
    from sortednet_cli.engine.sources.source import Source
    from sortednet_cli.engine.sources.table import Row as Row
    from sortednet_cli.nesting import SlicePlan as SlicePlan
    from sortednet_cli.storage.inspection import Inspection as Inspection
    from sortednet_cli.storage.sources import StoredSource

__all__ = [
    "BenchPackRequest",
    "CalibrateRequest",
    "DraftRequest",
    "EvaluateRequest",
    "Event",
    "ExtractRequest",
    "Finished",
    "FrontierRequest",
    "GenerateRequest",
    "HarnessRequest",
    "Interrupted",
    "PushRequest",
    "Report",
    "ReportRequest",
    "SamplingOptions",
    "Scored",
    "ServeRequest",
    "SourceRequest",
    "Started",
    "TrainRequest",
    "Updated",
    "bench_pack",
    "calibrate",
    "costs",
    "describe",
    "draft",
    "evaluate",
    "extract",
    "formats",
    "frontier",
    "generate",
    "inspect",
    "lack_of_memory",
    "no_progress",
    "pack_formats",
    "plan",
    "push",
    "report",
    "runtimes",
    "serve",
    "slices",
    "train",
]


def train(request: TrainRequest, stopped: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """Train a new run, or resume one.

    Args:
        stopped: called between micro-batches and between batches of scoring; training stops once
            it returns true.

    Yields:
        `Started`, then an `Updated` every few updates, a `Scored` per sub-model, and `Finished`.

    Raises:
        RequestError: the request is wrong; nothing was written.
        Interrupted: `stopped` returned true; the run can be resumed.
        WorkError: training diverged, memory ran out, or the run's folder could not be written.
    """
    from sortednet_cli.engine.training.preflight import check_begun, check_new

    spec = request.spec or unfinished_spec(request.resume)
    check_report(spec)
    if request.spec is None:
        check_begun(spec)
    else:
        check_new(spec)
        check_place(spec, request.out)

    from sortednet_cli.engine.training.train import train as train_run

    finished = None
    for event in train_run(request, stopped):
        if isinstance(event, Finished):
            finished = event
        else:
            yield event
    if finished is not None:  # the run is unlocked, and a job's processes have parted
        if spec.train.report and launch.rank() == 0:
            _report_finished(finished.run, spec)
        yield finished


def _report_finished(path: Path, spec: RunSpec) -> None:
    """Write the report of a run into it. If that fails, warn: the run is worth more."""
    from sortednet_cli.engine.reporting.write import write_report
    from sortednet_cli.storage.run import RunFolder

    # The factory has just run.
    request = SourceRequest(path, spec.model.factories)
    out = RunFolder(path).report
    try:
        stored = read_stored(request)
        write_report([(stored, partial(open_allowed, stored, request))], out)
        logger.info("wrote %s", out)
    except SortednetError as error:
        logger.warning("the run has no report: %s", error)


def draft(request: DraftRequest) -> Draft:
    """Look at a model and data, and write a spec that trains them.

    Raises:
        RequestError: the model is not known, nothing of it can be cut, the data do not suit it, or
            the spec's file exists.
        WorkError: the hub cannot be reached.
    """
    check_draft(request)

    from sortednet_cli.engine.drafting.draft import draft as draft_spec

    return draft_spec(request)


def evaluate(request: EvaluateRequest, progress: Progress = no_progress) -> Evaluation | None:
    """Score one sub-model, or all; return None in every process of a job but the first.

    Raises:
        RequestError: there is no such source, sub-model, part, data or task, or no such score.
        WorkError: memory ran out, the data of a task cannot be had, or the JUnit file cannot be
            written.
    """
    check_split(request.split)
    check_file("--junit", request.junit)
    if request.harness is not None:
        check_harness(request.harness)

    def check(stored: StoredSource) -> None:
        if request.harness is not None:
            stored.check_causal()
            return
        check_min_score(stored, request.min_score)
        stored.check_data(request.data)

    source = open_source(request.source, request.axes, check)

    from sortednet_cli.engine.evaluation.evaluate import evaluate as evaluate_source

    return evaluate_source(source, request, progress)


def frontier(request: FrontierRequest, progress: Progress = no_progress) -> Frontier:
    """Mark the frontier of a run, choose a sub-model within limits, and plot both on request.

    A plot is a picture, or the page that `report` writes.

    Raises:
        RequestError: there is no such run, cost or score, a file cannot be written, or no
            sub-model is within the limits.
    """
    from sortednet_cli.engine.evaluation.budget import budget_costs, check_selection, read_budget
    from sortednet_cli.engine.evaluation.costs import find_cost
    from sortednet_cli.engine.export.latencies import find_latency, require_latency

    latency, cost = find_latency(request), find_cost(request.cost)
    cost = latency if cost.name == latency.name else cost
    budget = read_budget(request.limits, latency)
    require_latency(request, latency, [cost, *budget_costs(budget)])
    check_plot(request.plot)
    check_file("--junit", request.junit)

    def check(stored: StoredSource) -> None:
        check_selection(stored, budget, latency)
        check_min_score(stored, request.min_score)
        if is_page(request.plot):
            stored.check_allowed(request.source.allow_factories)

    stored = read_stored(request.source, check=check)

    from sortednet_cli.engine.evaluation.frontier import make_frontier
    from sortednet_cli.engine.evaluation.judgement import judge_frontier

    def opened() -> Source:
        return open_allowed(stored, request.source)

    result = make_frontier(stored, opened, cost, budget, request.device, _cost_progress(progress))
    result = judge_frontier(result, stored.measure, request)
    if request.plot is not None and is_page(request.plot):
        from sortednet_cli.engine.reporting.write import write_report

        pair = (stored, opened)
        write_report([pair], request.plot, [cost], request.device, progress, result.rows)
        logger.info("wrote %s", request.plot)
    elif request.plot is not None and stored.space is not None:
        from sortednet_cli.engine.evaluation.plot import draw_frontier

        draw_frontier(stored.name, stored.space, result, request.plot)
        logger.info("wrote %s", request.plot)
    return result


def report(request: ReportRequest, progress: Progress = no_progress) -> Path:
    """Write an HTML page in which a user explores the sub-models of runs; return its path.

    Raises:
        RequestError: a source is no finished run or artifact, two are the same or have different
            metrics, there is no such cost, a factory is not allowed, the plotting library is
            missing, or there can be no page at the path.
        WorkError: the page cannot be written.
    """
    from sortednet_cli.engine.evaluation.costs import find_cost
    from sortednet_cli.engine.reporting.comparison import check_comparable
    from sortednet_cli.engine.reporting.page import check_page
    from sortednet_cli.engine.reporting.write import write_report
    from sortednet_cli.storage.files import free_name

    check_page(request.out)
    further = [find_cost(name) for name in request.costs]
    requests = [SourceRequest(path, request.allow_factories) for path in request.paths or (None,)]
    sources = [read_stored(each) for each in requests]
    check_comparable(sources)
    for stored in sources:
        stored.check_allowed(request.allow_factories)
    pairs = [(s, partial(open_allowed, s, r)) for s, r in zip(sources, requests, strict=True)]
    out = request.out or free_name(Path("report"), ".html")
    write_report(pairs, out, further, request.device, progress)
    return out


def extract(request: ExtractRequest, progress: Progress = no_progress) -> Extraction:
    """Cut a sub-model out as a standalone model that stock libraries load.

    Raises:
        RequestError: there is no such source, sub-model or format, no sub-model is within the
            limits, or the artifact's folder exists.
        WorkError: verification failed; nothing is left behind.
    """
    from sortednet_cli.engine.evaluation.budget import budget_costs, check_selection, read_budget
    from sortednet_cli.engine.evaluation.costs.device_latency import DeviceLatency
    from sortednet_cli.engine.export.formats import find_format
    from sortednet_cli.engine.export.latencies import find_latency, require_latency
    from sortednet_cli.storage.files import require_creatable

    file_format = find_format(request.file_format)
    latency = find_latency(request, file_format)
    budget = read_budget(request.limits, latency)
    require_latency(request, latency, budget_costs(budget))
    if request.axes and budget:
        raise RequestError("name the sub-model by its axes or by a budget, not by both")
    if request.out is not None:
        require_creatable(request.out)

    def check(stored: StoredSource) -> None:
        if file_format is not None:
            file_format.check(stored.kind)
        if budget is not None:
            check_selection(stored, budget, latency)
        if request.data is not None or (file_format is not None and file_format.lossy):
            stored.check_data(request.data)

    stored = read_stored(request.source, request.axes, check)
    if isinstance(latency, DeviceLatency) and file_format is not None:
        latency.warn_unless_of(file_format.name)
    source = open_allowed(stored, request.source)

    from sortednet_cli.engine.export.request import extract_requested

    return extract_requested(source, stored, request, budget, file_format, _cost_progress(progress))


def bench_pack(request: BenchPackRequest, progress: Progress = no_progress) -> BenchPack:
    """Write a folder with which another device measures the latency of every sub-model.

    Raises:
        RequestError: there is no such source or format, no script runs the format on a device, the
            models are too large together, or the folder exists.
        WorkError: the outputs of a file differ from the sub-model's; nothing is left behind.
    """
    from sortednet_cli.engine.packing.pack import check_pack, find_timed, write_pack
    from sortednet_cli.storage.files import require_creatable

    file_format = find_timed(request.file_format)
    if request.out is not None:
        require_creatable(request.out)
    stored = read_stored(
        request.source, check=lambda stored: check_pack(stored, request, file_format)
    )
    source = open_allowed(stored, request.source)
    return write_pack(source, stored, request, file_format, progress)


def push(request: PushRequest) -> Push:
    """Verify an artifact and send it to the Hugging Face Hub, or say what would be sent. No torch.

    Raises:
        RequestError: the path is no artifact, or it is damaged; there can be no such repository, or
            it holds another model; there is no token, or the hub's client is told to stay offline.
        WorkError: the hub cannot be reached or refuses.
    """
    from sortednet_cli.engine.export.push import check_push
    from sortednet_cli.engine.export.push import push as push_artifact

    check_push(request)
    return push_artifact(request)


def generate(request: GenerateRequest) -> Generation:
    """Continue texts. The result yields one completion after another, each in pieces.

    Raises:
        RequestError: the model is not causal, a prompt is too long, or the model lacks the exits or
            thresholds that the mode needs.
    """

    def check(stored: StoredSource) -> None:
        stored.check_causal()
        if request.mode == "early-exit":
            stored.check_calibrated(request.axes)

    source = open_source(request.source, request.axes, check)

    from sortednet_cli.engine.generation.generate import generate as generate_texts

    return generate_texts(source, request)


def serve(
    request: ServeRequest, num_stops: Callable[[], int], ready: Callable[[Serving], None]
) -> bool:
    """Answer HTTP requests for every sub-model of a source, until it is stopped.

    Args:
        num_stops: how often the server was told to stop; called several times a second. After
            the first time, running requests may end, and all others are refused. After the
            second, running requests are cut off.
        ready: called once requests are answered.

    Returns:
        Whether all threads have ended. If not, leave by `os._exit`: Python cannot end a thread
        that runs torch, and aborts.

    Raises:
        RequestError: a package is missing, the source neither generates texts nor classifies
            images, or the address cannot be had.
    """
    check_serving()

    def check(stored: StoredSource) -> None:
        if stored.kind == "text":
            stored.check_causal()

    from sortednet_cli.engine.serving.app.server import bind

    stored = read_stored(request.source, check=check)
    with bind(request.host, request.port) as bound:
        source = open_allowed(stored, request.source)

        from sortednet_cli.engine.serving.serve import serve as serve_source

        return serve_source(source, request, bound, num_stops, ready)


def calibrate(request: CalibrateRequest) -> Calibrated:
    """Measure the early-exit thresholds on validation data, and store them.

    Raises:
        RequestError: the model is not causal, or the sub-model has no exit before its last layer.
        WorkError: the validation part has no token to measure.
    """

    def check(stored: StoredSource) -> None:
        stored.check_causal()
        stored.check_data(request.data)

    source = open_source(request.source, request.axes, check)

    from sortednet_cli.engine.generation.generate import calibrate as calibrate_source

    return calibrate_source(source, request)


def plan(spec: RunSpec, processes: int = 1, allow_factories: tuple[str, ...] = ()) -> ResourcePlan:
    """Count the resources that training a spec needs, without weights or data.

    Args:
        allow_factories: factories that a teacher may run besides the spec's own, as `MODULE:NAME`.

    Raises:
        RequestError: the spec is wrong, or takes sizes from its data or its pretrained model.
    """
    from sortednet_cli.engine.training.preflight import check_plan

    check_plan(spec)

    from sortednet_cli.engine.planning.resources import plan_resources

    return plan_resources(spec, processes, allow_factories)


def slices(request: SourceRequest, axes: Mapping[str, int | float]) -> SlicePlan:
    """Make the slice plan of a sub-model; RequestError if there is no such source or sub-model."""
    source = open_source(request, axes)
    return source.plan(source.space.resolve(axes))


def describe(path: Path | None) -> Description:
    """Describe a run or an artifact, by default the newest finished run. No torch.

    Raises:
        RequestError: the path is no run or artifact, or it is damaged.
    """
    from sortednet_cli.engine.sources.describe import describe as describe_source

    return describe_source(path or newest_finished())


def inspect(path: Path | None) -> Inspection:
    """Compare every file of a run or an artifact with its checksum. No torch.

    Raises:
        RequestError: files are damaged or missing; the message names each.
    """
    from sortednet_cli.storage.inspection import inspect as inspect_files

    return inspect_files(path or newest_finished())


def costs() -> list[Cost]:
    """List the costs that a budget can bound and a frontier can use. No torch."""
    from sortednet_cli.engine.evaluation.costs import every_cost

    return every_cost()


def formats() -> list[str]:
    """List the values of `--format`. No torch."""
    from sortednet_cli.engine.export.formats import format_names

    return format_names()


def pack_formats() -> list[str]:
    """List the export formats that a bench pack can have. No torch."""
    from sortednet_cli.engine.packing.pack import timed_formats

    return timed_formats()


def runtimes() -> list[str]:
    """List the values of `--runtime`. No torch."""
    from sortednet_cli.engine.export.latencies import runtimes as runtime_names

    return runtime_names()


def lack_of_memory(error: BaseException) -> str | None:
    """Return an allocator's message in one sentence; None if the error has another cause."""
    from sortednet_cli.machine.memory import lack_of_memory as memory_message

    return memory_message(error)


def _cost_progress(progress: Progress) -> CostProgress:
    """Adapt progress to costs: the quantity is the work, and the sub-model is the step."""
    return lambda cost, done, total, row: progress(cost.quantity, done, total, row.submodel.name)
