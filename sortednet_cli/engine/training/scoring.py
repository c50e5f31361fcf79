"""The end of a training: every sub-model's statistics, costs and scores."""

from __future__ import annotations

from collections.abc import Callable, Generator

from sortednet_cli.allocator import release
from sortednet_cli.distributed.processes import lost_peers
from sortednet_cli.engine.evaluation.batch_sizes import BatchSizes
from sortednet_cli.engine.evaluation.gather import gather_rows, gather_statistics
from sortednet_cli.engine.evaluation.score import ensure_statistics, score
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.engine.training.driver import Driver
from sortednet_cli.engine.training.events import Scored
from sortednet_cli.nesting import Costs

SPLITS = ("validation", "test")


class _Cut(Exception):
    """Scoring is to end in the middle."""


def score_all(
    driver: Driver,
    costs: Costs,
    stopped: Callable[[], bool],
) -> Generator[Scored, None, list[Row]]:
    """Measure statistics, costs and scores of every sub-model, one event for each.

    Each process takes its share of the groups, or its part in every pass.

    Returns:
        The rows of all processes.

    Raises:
        Interrupted: `stopped()` became true in any process.
    """
    trainer, backend, rows = driver.trainer, driver.backend, list[Row]()
    network, samples = trainer.network, trainer.spec.recalibrate_samples
    sizes = BatchSizes.of(network, trainer.data.format)
    cut = False

    def between() -> None:
        if stopped():
            raise _Cut

    try:
        for group in backend.scored_here(network.groups(network.space.submodels)):
            ensure_statistics(network, group, trainer.data, sizes, samples, between)
            with lost_peers():
                found = score(network, group, trainer.data, SPLITS, trainer.task, sizes, between)
            for submodel in reversed(group):
                cost = costs.of(submodel)
                rows.append(Row(submodel, cost.params, cost.macs, found[submodel]))
                done = min(len(rows) * backend.groups_at_once, len(network.space))
                yield Scored(rows[-1], done, len(network.space))
            release()  # the next width frees and asks for other sizes
    except _Cut:
        cut = True
    if any(trainer.processes.any(cut)):
        raise driver.interrupted("while scoring the sub-models")
    gather_statistics(trainer.processes, network)
    return gather_rows(trainer.processes, rows, network.space)
