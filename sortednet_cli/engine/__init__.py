"""The front door: one function for each command, with a typed request and a typed result.

Importing it imports no torch, and each function tells everything that it can before it does: a
wrong request is answered at once. Nothing here prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sortednet_cli.engine.checks import (
    check_place,
    check_plot,
    newest_finished,
    open_source,
    unfinished_spec,
)
from sortednet_cli.engine.requests import (
    CalibrateRequest,
    EvaluateRequest,
    ExtractRequest,
    FrontierRequest,
    GenerateRequest,
    SamplingOptions,
    SourceRequest,
    TrainRequest,
)
from sortednet_cli.engine.training.events import (
    Event,
    Finished,
    Interrupted,
    Scored,
    Started,
    Updated,
)
from sortednet_cli.errors import RequestError
from sortednet_cli.logs import logger
from sortednet_cli.spec import RunSpec

if TYPE_CHECKING:
    from sortednet_cli.engine.evaluation.costs import Conditions as Conditions
    from sortednet_cli.engine.evaluation.costs import Cost as Cost
    from sortednet_cli.engine.evaluation.evaluate import Evaluation as Evaluation
    from sortednet_cli.engine.evaluation.frontier import Frontier as Frontier
    from sortednet_cli.engine.evaluation.frontier import Report as CostReport
    from sortednet_cli.engine.export.extract import Verification as Verification
    from sortednet_cli.engine.export.request import Extraction as Extraction
    from sortednet_cli.engine.generation import DecodingStats as DecodingStats
    from sortednet_cli.engine.generation.generate import Calibrated as Calibrated
    from sortednet_cli.engine.generation.generate import Generation as Generation
    from sortednet_cli.engine.planning.resources import ResourcePlan as ResourcePlan
    from sortednet_cli.engine.sources.describe import Description as Description
    from sortednet_cli.engine.sources.table import Row as Row
    from sortednet_cli.nesting import SlicePlan as SlicePlan
    from sortednet_cli.storage.inspection import Inspection as Inspection
    from sortednet_cli.storage.sources import StoredSource

__all__ = [
    "CalibrateRequest",
    "EvaluateRequest",
    "Event",
    "ExtractRequest",
    "Finished",
    "FrontierRequest",
    "GenerateRequest",
    "Interrupted",
    "Report",
    "SamplingOptions",
    "Scored",
    "SourceRequest",
    "Started",
    "TrainRequest",
    "Updated",
    "calibrate",
    "costs",
    "describe",
    "evaluate",
    "extract",
    "formats",
    "frontier",
    "generate",
    "inspect",
    "lack_of_memory",
    "no_report",
    "plan",
    "slices",
    "train",
]

Report = Callable[[str, int, int, str], None]
"""Takes the name of a long piece of work, how much is done, of how much, and its last part."""


def no_report(work: str, done: int, total: int, part: str) -> None:
    """Report to nobody."""


def train(request: TrainRequest, stopped: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """Train a run: `Started`, an `Updated` now and then, each sub-model `Scored`, `Finished`.

    Args:
        stopped: asked between micro-batches, and between batches of scoring.

    Raises:
        RequestError: the request is wrong; nothing was written.
        Interrupted: `stopped` became true; the run can be resumed.
        WorkError: training diverged, memory ran out, or the run's folder cannot be written.
    """
    from sortednet_cli.engine.training.preflight import check_begun, check_new

    if request.spec is None:
        check_begun(unfinished_spec(request.resume))
    else:
        check_new(request.spec)
        check_place(request.spec, request.out)

    from sortednet_cli.engine.training.train import train as carry_out

    yield from carry_out(request, stopped)


def evaluate(request: EvaluateRequest, report: Report = no_report) -> Evaluation | None:
    """Score a sub-model, or all of them.

    Returns:
        The rows; None in a process of a job that does not lead it.

    Raises:
        RequestError: there is no such source, sub-model or data.
        WorkError: memory ran out.
    """
    source = open_source(
        request.source, request.axes, lambda stored: stored.check_data(request.data)
    )

    from sortednet_cli.engine.evaluation.costs import Conditions as Conditions
    from sortednet_cli.engine.evaluation.costs import Cost as Cost
    from sortednet_cli.engine.evaluation.evaluate import evaluate as carry_out

    return carry_out(source, request, report)


def frontier(request: FrontierRequest, report: Report = no_report) -> Frontier:
    """Mark the frontier of a run, choose within limits, and draw it where asked.

    Raises:
        RequestError: there is no such run, cost or place for a picture; nothing fits the limits.
    """
    from sortednet_cli.engine.evaluation.budget import check_selection, read_budget
    from sortednet_cli.engine.evaluation.costs import find_cost

    cost, budget = find_cost(request.cost), read_budget(request.limits)
    if request.plot is not None:
        check_plot(request.plot)
    source = open_source(request.source, check=lambda stored: check_selection(stored, budget))

    from sortednet_cli.engine.evaluation.frontier import make_frontier
    from sortednet_cli.engine.evaluation.plot import draw_frontier

    found = make_frontier(source, cost, budget, request.device, _of_costs(report))
    if request.plot is not None:
        draw_frontier(source, found, request.plot)
        logger.info("drew %s", request.plot)
    return found


def extract(request: ExtractRequest, report: Report = no_report) -> Extraction:
    """Cut a sub-model out as a standalone model that stock libraries load.

    Raises:
        RequestError: there is no such source, sub-model or format; nothing fits the limits; the
            folder exists.
        WorkError: a check failed; nothing is left behind.
    """
    from sortednet_cli.engine.evaluation.budget import check_selection, read_budget
    from sortednet_cli.engine.export.formats import find_format
    from sortednet_cli.storage.files import require_creatable

    budget, file_format = read_budget(request.limits), find_format(request.file_format)
    if request.axes and budget:
        raise RequestError("name the sub-model by its axes or by a budget, not both")
    if request.out is not None:
        require_creatable(request.out)

    def can_be_cut(stored: StoredSource) -> None:
        if file_format is not None:
            file_format.check(stored.kind)
        if budget is not None:
            check_selection(stored, budget)
        if request.data is not None:
            stored.check_data(request.data)

    source = open_source(request.source, request.axes, can_be_cut)

    from sortednet_cli.engine.export.request import carry_out

    return carry_out(source, request, budget, file_format, _of_costs(report))


def generate(request: GenerateRequest) -> Generation:
    """Continue texts; the completions come one after another, in pieces.

    Raises:
        RequestError: the model continues no texts, a prompt is too long, or the mode needs what
            the model has not.
    """

    def can_continue(stored: StoredSource) -> None:
        stored.check_causal()
        if request.mode == "early-exit":
            stored.check_calibrated(request.axes)

    source = open_source(request.source, request.axes, can_continue)

    from sortednet_cli.engine.generation.generate import generate as carry_out

    return carry_out(source, request)


def calibrate(request: CalibrateRequest) -> Calibrated:
    """Measure the thresholds of early exit on validation data, and store them.

    Raises:
        RequestError: the model continues no texts, or has no exit below the sub-model.
        WorkError: the validation part has no token to measure.
    """

    def can_be_measured(stored: StoredSource) -> None:
        stored.check_causal()
        stored.check_data(request.data)

    source = open_source(request.source, request.axes, can_be_measured)

    from sortednet_cli.engine.generation.generate import calibrate as carry_out

    return carry_out(source, request)


def plan(spec: RunSpec, processes: int = 1) -> ResourcePlan:
    """Count what a training takes, without weights or data.

    Raises:
        RequestError: the spec leaves sizes to its data or its pretrained model, or is wrong.
    """
    from sortednet_cli.engine.training.preflight import check_plan

    check_plan(spec)

    from sortednet_cli.engine.planning.resources import plan_resources

    return plan_resources(spec, processes)


def slices(request: SourceRequest, axes: Mapping[str, int | float]) -> SlicePlan:
    """Plan a sub-model: which leading slice of which tensor each of its tensors is."""
    source = open_source(request, axes)
    return source.plan(source.space.resolve(axes))


def describe(path: Path | None) -> Description:
    """Say what a run or an artifact is, the newest finished run if none is named. No torch.

    Raises:
        RequestError: it is none, or damaged.
    """
    from sortednet_cli.engine.sources.describe import describe as carry_out

    return carry_out(path or newest_finished())


def inspect(path: Path | None) -> Inspection:
    """Compare every file of a run or an artifact with its checksum. No torch.

    Raises:
        RequestError: a file is damaged or missing; each is named.
    """
    from sortednet_cli.storage.inspection import inspect as carry_out

    return carry_out(path or newest_finished())


def costs() -> list[Cost]:
    """List what budgets can bound and frontiers weigh. No torch."""
    from sortednet_cli.engine.evaluation.costs import every_cost

    return every_cost()


def formats() -> list[str]:
    """List the names of an artifact's file formats. No torch."""
    from sortednet_cli.engine.export.formats import format_names

    return format_names()


def lack_of_memory(error: BaseException) -> str | None:
    """What an allocator said, in one sentence; None if the error is another one."""
    from sortednet_cli.machine.memory import lack_of_memory as reason

    return reason(error)


def _of_costs(report: Report) -> CostReport:
    """Tell of each cost by its quantity."""
    return lambda cost, done, total, row: report(cost.quantity, done, total, row.submodel.name)
