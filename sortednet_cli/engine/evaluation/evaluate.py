"""The command `eval`: sub-models of a source, scored by all processes of a job."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sortednet_cli.distributed.processes import join_job
from sortednet_cli.engine.evaluation.gather import gather_rows
from sortednet_cli.engine.evaluation.judgement import Judgement
from sortednet_cli.engine.evaluation.score import score_source
from sortednet_cli.engine.requests import EvaluateRequest, Progress
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.machine.device import choose_device
from sortednet_cli.spec.measures import measure_named


@dataclass(frozen=True)
class Evaluation:
    """Sub-models with their costs and their scores on one part of the data.

    Attributes:
        path: the source's folder.
        split: the part of the data.
        metric: name of the metric that scores sub-models.
        rows: one row per sub-model, from the smallest.
        missed: which rows miss the least score that was asked for; None if none does.
    """

    path: Path
    split: str
    metric: str
    rows: list[Row]
    missed: str | None = None


def evaluate(source: Source, request: EvaluateRequest, progress: Progress) -> Evaluation | None:
    """Score the sub-models of a request; return None in every process but the first.

    Raises:
        RequestError: there is no such sub-model, data or score.
        WorkError: memory ran out, or the JUnit file cannot be written.
    """
    if request.harness is not None:
        from sortednet_cli.engine.evaluation.harness import evaluate_harness

        scored = evaluate_harness(source, request, request.harness, progress)
        return Evaluation(source.path, request.split, source.task.metric, scored)
    space, measure = source.space, measure_named(source.task.metric)
    if request.min_score is not None:
        measure.check_bound(request.min_score)
    submodels = space.submodels if request.every else [space.resolve(request.axes)]
    device = choose_device(request.device)
    data = source.open_data(None if request.data is None else str(request.data))
    rows: list[Row] = []
    with join_job(device) as processes:
        for row in score_source(
            source, submodels, data, splits=(request.split,), device=device, processes=processes
        ):
            rows.append(row)
            done = min(len(rows) * processes.count, len(submodels))
            progress("score", done, len(submodels), row.submodel.name)
        rows = gather_rows(processes, rows, space)
        if not processes.leads:
            return None
    judged = Judgement(source.path, rows, request.split, measure, request.min_score)
    missed = judged.write(request.junit)
    return Evaluation(source.path, request.split, measure.metric, rows, missed)
