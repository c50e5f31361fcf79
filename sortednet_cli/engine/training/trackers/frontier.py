"""The frontier of a finished training, for trackers: its rows and its picture."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from sortednet_cli.engine.evaluation.costs import DEFAULT, find_cost
from sortednet_cli.engine.evaluation.frontier import mark_frontier
from sortednet_cli.engine.evaluation.plot import draw_frontier
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.engine.training.trackers import Recorder
from sortednet_cli.errors import reason_of
from sortednet_cli.logs import logger
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import RunSpec
from sortednet_cli.tasks import Task


def record_frontier(
    recorder: Recorder, run: Path, spec: RunSpec, rows: Sequence[Row], task: Task
) -> None:
    """Record all rows, and the picture that `frontier --plot` draws, with the open trackers.

    A picture that cannot be drawn is a warning: a training is worth more.
    """
    if not recorder.opened:
        return
    ordered = sorted(rows, key=lambda row: (row.macs, row.params))
    result = mark_frontier(run, ordered, find_cost(DEFAULT), task)
    marked = zip(result.rows, result.pareto, strict=True)
    records = [row.record(result.split, mark) for row, mark in marked]
    with ExitStack() as stack:
        try:
            picture = Path(stack.enter_context(TemporaryDirectory())) / "frontier.png"
            draw_frontier(spec.name, SearchSpace.of(spec.space), result, picture)
        except Exception as error:  # no room for its file, or whatever the plotting library raises
            logger.warning("no tracker gets the frontier: %s", reason_of(error))
            return
        recorder.record_frontier(records, picture)
