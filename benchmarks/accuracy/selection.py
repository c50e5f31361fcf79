"""Choosing a sub-model for a budget without search: what the choice costs in accuracy and time.

    python -m benchmarks.accuracy.selection runs/digits-resnet runs/cifar10-resnet

For budgets of 10, 25, 50 and 75% of the largest sub-model's parameters, multiply-adds and latency:
the sub-model that `extract --max-...` picks, which it does by validation score, beside the best one
on the test part within the same budget, which nobody could know. The regret is the difference of
their test accuracies. Nothing is trained; latencies are measured (batch size 1, one thread).
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.accuracy.trainings import score
from benchmarks.harness import over_runs, tell
from sortednet_cli import LoadedRun
from sortednet_cli.engine.evaluation.budget import Bound, Budget
from sortednet_cli.engine.evaluation.costs import Cost, find_cost
from sortednet_cli.engine.evaluation.frontier import CostTable, choose
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.errors import RequestError
from sortednet_cli.storage.sources import read_source

SHARES = (0.1, 0.25, 0.5, 0.75)
COSTS = {"params": "parameters", "macs": "multiply-adds", "latency_ms": "latency"}
REPEATS = 25


def select(source: LoadedRun) -> dict[str, Any]:
    """Every budget of a run."""
    start = time.perf_counter()
    table = CostTable(read_source(source.path), lambda: source, device="cpu")
    for name in COSTS:
        table.add(find_cost(name))
    rows, seconds = table.rows, time.perf_counter() - start
    budgets = [one(source, rows, find_cost(name), share) for name in COSTS for share in SHARES]
    return {
        "name": source.name,
        "data": Path(source.data.path).name if source.data.path else source.data.source,
        "submodels": len(rows),
        "latency_seconds": seconds,
        "choice_seconds": statistics.median(b["seconds"] for b in budgets if b["picked"]),
        "budgets": budgets,
    }


def one(source: LoadedRun, rows: list[Row], cost: Cost, share: float) -> dict[str, Any]:
    """One budget: what is picked, what was best, and how long picking took."""
    limit = share * max(cost.value(row) for row in rows)
    budget = Budget.of(Bound(cost, limit))
    seconds = []
    try:
        for _ in range(REPEATS):
            start = time.perf_counter()
            picked = choose(rows, budget, source.task)
            seconds.append(time.perf_counter() - start)
    except RequestError:  # even the smallest is above it
        return {"cost": cost.name, "share": share, "picked": None}
    fitting = [row for row in rows if cost.value(row) <= limit]
    best = max(fitting, key=_test)
    return {
        "cost": cost.name,
        "share": share,
        "fitting": len(fitting),
        "picked": picked.submodel.name,
        "picked_accuracy": _test(picked),
        "best": best.submodel.name,
        "best_accuracy": _test(best),
        "seconds": statistics.median(seconds),
    }


def _test(row: Row) -> float:
    return score({"metrics": row.metrics}, "test")


def table(result: dict[str, Any]) -> str:
    """Accuracies in percent of the test part; regret in points."""
    lines = [
        "| run | budget | fit it | picked by validation | accuracy | best on test | accuracy"
        " | regret |",
        "|" + " --- |" * 8,
    ]
    for run in result["runs"]:
        for budget in run["budgets"]:
            limit = f"{100 * budget['share']:.0f}% of {COSTS[budget['cost']]}"
            if budget["picked"] is None:
                lines.append(f"| {run['name']} | {limit} | 0 | none fits | | | | |")
                continue
            accuracies = 100 * budget["picked_accuracy"], 100 * budget["best_accuracy"]
            lines.append(
                f"| {run['name']} | {limit} | {budget['fitting']} | {budget['picked']}"
                f" | {accuracies[0]:.2f} | {budget['best']} | {accuracies[1]:.2f}"
                f" | {accuracies[1] - accuracies[0]:.2f} |"
            )
    lines.append("")
    for run in result["runs"]:
        met = [budget for budget in run["budgets"] if budget["picked"]]
        regrets = [100 * (b["best_accuracy"] - b["picked_accuracy"]) for b in met]
        picks = len({budget["picked"] for budget in met})
        lines.append(
            f"`{run['name']}`: {len(met)} budgets, {picks} different picks, mean regret"
            f" {statistics.fmean(regrets):.2f} points, worst {max(regrets):.2f}; a choice takes"
            f" {1e6 * run['choice_seconds']:.0f} µs, measuring the latency of all"
            f" {run['submodels']} {run['latency_seconds']:.0f} s."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    tell(lambda: over_runs("selection", __doc__, select, table))
