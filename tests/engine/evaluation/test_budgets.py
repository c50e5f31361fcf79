"""Budgets and the frontier: what is within several bounds, and which of it is chosen."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from sortednet_cli.engine.evaluation import latency
from sortednet_cli.engine.evaluation.budget import Bound, Budget
from sortednet_cli.engine.evaluation.costs import every_cost, find_cost
from sortednet_cli.engine.evaluation.frontier import choose, mark_frontier, pareto, score_of
from sortednet_cli.engine.evaluation.plot import draw_frontier
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.errors import RequestError
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.tasks import make_task
from tests.cli.test_bad_input import RUN
from tests.commands import command, refused
from tests.sealing import reseal

CLASSIFICATION = make_task("classification", "image", 5)
PERPLEXITY = make_task("causal-lm", "text", 40)
FURTHER = ("size_mb", "memory_mb", "latency_ms")


def test_frontier_against_the_definition() -> None:
    points = [
        (0.9, 10.0),
        (0.9, 12.0),
        (0.8, 5.0),
        (0.7, 5.0),
        (0.95, 20.0),
        (0.6, 30.0),
        (0.8, 5.0),
    ]

    def is_beaten(i: int) -> bool:
        score, cost = points[i]
        return any(s >= score and c <= cost and (s > score or c < cost) for s, c in points)

    assert pareto(points) == [not is_beaten(i) for i in range(len(points))]


def row(number: int, score: float, params: int, macs: int = 1, **costs: float) -> Row:
    metrics = {"validation": {"accuracy": score, "loss": 1 - score, "perplexity": 1 / score}}
    return Row(SubModel.of({"depth": number}), params, macs, metrics, costs)


def budget(**limits: float) -> Budget:
    return Budget.of(*(Bound(find_cost(name), limit) for name, limit in limits.items()))


def chosen(rows: Sequence[Row], limits: Budget) -> float:
    return choose(rows, limits, CLASSIFICATION).submodel.axes["depth"]


def test_budget_takes_the_best_that_fits_and_the_cheaper_of_equals() -> None:
    rows = [row(1, 0.9, 100), row(2, 0.95, 300), row(3, 0.95, 200), row(4, 0.99, 400)]
    assert chosen(rows, budget(params=300)) == 3
    assert chosen(rows, budget(params=400)) == 4
    with pytest.raises(RequestError, match="no sub-model fits params <= 99; the smallest has 100"):
        chosen(rows, budget(params=99))


@pytest.mark.parametrize("task", [CLASSIFICATION, PERPLEXITY], ids=["higher", "lower"])
def test_a_score_that_is_no_number_is_the_worst(task: Any) -> None:
    nameless, known = row(1, math.nan, 100), row(2, 0.5, 200)
    for rows in ([nameless, known], [known, nameless]):
        assert choose(rows, Budget(()), task) is known
    assert pareto([(score_of(task, each), each.params) for each in (nameless, known)]) == [
        False,
        True,
    ]


@pytest.mark.parametrize("score", [0.0, math.nan])
@pytest.mark.parametrize("metric", ["accuracy", "perplexity"])
def test_scores_of_nothing_are_drawn_too(work: Path, score: float, metric: str) -> None:
    """The score of the largest divides none, and there may be no frontier."""
    axes = {"width": (0.5, 1.0), "depth": (1, 2)}
    rows = [
        Row(submodel, 10, 100, {"validation": {metric: score}})
        for submodel in SearchSpace.of(axes).submodels
    ]
    task = CLASSIFICATION if metric == "accuracy" else PERPLEXITY
    result = mark_frontier(work, rows, find_cost("macs"), task)
    draw_frontier("run", SearchSpace.of(axes), result, work / "frontier.svg")
    assert "sub-models of one network" in (work / "frontier.svg").read_text()


def test_ties_are_settled_by_the_costs_of_the_budget_in_its_order() -> None:
    by_latency = [row(1, 0.9, 10, macs=1, latency_ms=3), row(2, 0.9, 20, macs=9, latency_ms=2)]
    assert chosen(by_latency, budget(latency_ms=5)) == 2
    assert chosen(by_latency, budget(params=30)) == 1
    assert chosen(by_latency, budget(latency_ms=5, params=30)) == 1
    same = [row(1, 0.9, 30, macs=8, size_mb=2), row(2, 0.9, 20, macs=9, size_mb=2)]
    assert chosen(same, budget(size_mb=2)) == 1
    assert chosen([replace(each, macs=8) for each in same], budget(size_mb=2)) == 2


def _random_rows(random: random.Random) -> list[Row]:
    """Few different values: most choices are between equals."""
    return [
        row(
            number,
            random.choice((0.25, 0.5, 0.75)),
            random.randint(1, 6),
            random.randint(1, 6),
            **{name: random.randint(1, 6) / 2 for name in FURTHER},
        )
        for number in range(1, 13)
    ]


@pytest.mark.parametrize("task", [CLASSIFICATION, PERPLEXITY], ids=["higher", "lower"])
def test_joined_budgets_against_brute_force(task: Any) -> None:
    """Over every combination of costs: the best within all bounds, or a refusal if none is."""
    numbers = random.Random(0)
    costs, answers = ("macs", "params", *FURTHER), []
    for count in range(1, len(costs) + 1):
        for some in combinations(costs, count):
            for _ in range(20):
                rows = _random_rows(numbers)
                limits = {name: numbers.randint(1, 6) / 2 for name in some}
                answers.append(_brute_force(rows, limits, task))
                given = list(limits.items())
                numbers.shuffle(given)  # the order in which bounds are given decides nothing
                if answers[-1] is None:
                    with pytest.raises(RequestError, match="no sub-model fits"):
                        choose(rows, budget(**dict(given)), task)
                else:
                    assert choose(rows, budget(**dict(given)), task) is answers[-1]
    assert 100 < answers.count(None) < len(answers) - 100


def _brute_force(rows: list[Row], limits: dict[str, float], task: Any) -> Row | None:
    order = [name for name in ("macs", "params", *FURTHER) if name in limits]

    def value(each: Row, name: str) -> float:
        return each.costs[name] if name in each.costs else float(getattr(each, name))

    def rank(each: Row) -> list[float]:
        score = each.metrics["validation"][task.metric]
        spent = [value(each, name) for name in (*order, "macs", "params")]
        return [-score if task.higher_is_better else score, *spent]

    best = None
    for each in rows:
        fits = all(value(each, name) <= limit for name, limit in limits.items())
        if fits and (best is None or rank(each) < rank(best)):
            best = each
    return best


ROWS = [row(1, 0.5, 100, 9000), row(2, 0.6, 2000, 8000), row(3, 0.7, 3000, 9500)]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"params": 10}, "no sub-model fits params <= 10; the smallest has 100"),
        (
            {"macs": 1e6, "params": 10},
            "no sub-model fits params <= 10; the smallest has 100",
        ),
        (
            {"params": 10, "macs": 10},
            "no sub-model fits macs <= 10 or params <= 10; the smallest has macs 8k, params 100",
        ),
        (
            {"params": 1000, "macs": 8500},
            "no sub-model fits macs <= 8.5k and params <= 1k together; of the 1 within"
            " macs <= 8.5k the smallest has params 2k",
        ),
        (
            {"latency_ms": 5, "params": 10},
            "no sub-model fits params <= 10; the smallest has 100",
        ),
    ],
)
def test_a_refusal_names_each_bound_and_what_rules_all_out(
    limits: dict[str, float], message: str
) -> None:
    with pytest.raises(RequestError) as refusal:
        budget(**limits).within(ROWS)
    assert str(refusal.value) == message


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The sub-models whose latency is measured, each a millisecond slower than the last."""
    measured: list[str] = []

    def measure(network: object, submodel: SubModel, inputs: object) -> float:
        measured.append(submodel.name)
        return float(len(measured))

    monkeypatch.setattr(latency, "latency_ms", measure)
    return measured


def document(*arguments: str) -> Any:
    done = command(*arguments, "--json", "--quiet")
    assert (done.code, done.err) == (0, ""), done
    return json.loads(done.out)


def test_latency_is_measured_for_what_the_other_bounds_leave(home: Path, timed: list[str]) -> None:
    stored = document("frontier")["submodels"]
    most = sorted(each["params"] for each in stored)[1]
    fitting = [each["name"] for each in stored if each["params"] <= most]
    found = document("frontier", f"--max-params={most}", "--max-latency-ms=1.5")
    assert timed == fitting and len(fitting) == 2
    assert found["chosen"]["name"] == timed[0]
    assert {each["name"] for each in found["submodels"] if each["latency_ms"]} == set(timed)
    assert found["latency"]["batch_size"] == 1
    timed.clear()
    cut = document("extract", f"--max-params={most}", "--max-latency-ms=1.5", "--out=cut")
    assert timed == fitting
    assert cut["submodel"]["name"] == fitting[0] and cut["submodel"]["latency_ms"] == 1
    timed.clear()
    refused(
        command("extract", f"--max-params={most}", "--max-latency-ms=0.5", "--quiet"),
        2,
        "latency_ms <= 0.5 together; of the 2 within params <=",
        "the smallest has latency_ms 1",
    )


def test_a_cost_is_measured_for_what_the_bounds_leave_and_marks_are_theirs(
    home: Path, timed: list[str]
) -> None:
    stored = document("frontier")["submodels"]
    most = sorted(each["params"] for each in stored)[1]
    fitting = [each["name"] for each in stored if each["params"] <= most]
    found = document("frontier", "--cost=latency", f"--max-params={most}", "--plot=a.svg")
    assert timed == fitting
    marked = [each["name"] for each in found["submodels"] if each["pareto"]]
    assert marked and set(marked) <= set(fitting)
    assert all(each["latency_ms"] is None for each in found["submodels"][2:])


def test_what_is_nearly_free_rules_out_before_what_runs_a_pass() -> None:
    bounds = budget(latency_ms=1, memory_mb=1, size_mb=1, params=1).bounds
    assert [bound.cost.name for bound in bounds] == ["params", "size_mb", "memory_mb", "latency_ms"]


def test_a_choice_off_the_frontier_is_explained(home: Path) -> None:
    """Fewest parameters among equal scores need not be fewest multiply-adds."""
    table = json.loads((RUN / "frontier.json").read_text())
    for number, each in enumerate(table["submodels"]):
        each["metrics"]["validation"]["accuracy"] = 0.5
        each["params"], each["macs"] = 100 - number, 1000 + number
    (RUN / "frontier.json").write_text(json.dumps(table))
    reseal(RUN)
    done = command("frontier", "--max-params=1k")
    chosen, cheapest = (table["submodels"][at]["axes"] for at in (-1, 0))
    assert (done.code, SubModel.of(chosen).name in done.out) == (0, True)
    other = SubModel.of(cheapest).name
    assert f"not on the frontier: {other} scores 50.00% for less (macs 1k)" in done.err


def test_json_holds_what_was_asked_for_beyond_the_contract(home: Path) -> None:
    plain = document("frontier")["submodels"]
    weighed = document("frontier", "--cost=size", "--max-memory-mb=1000")
    for before, each in zip(plain, weighed["submodels"], strict=True):
        further = {key: each.pop(key) for key in ("size_mb", "memory_mb")}
        assert each == {**before, "pareto": each["pareto"]}
        assert each["params"] * 4 / 1e6 < further["size_mb"] < further["memory_mb"]
    assert weighed["chosen"].keys() == {*plain[0], "size_mb", "memory_mb"}
    assert weighed.keys() == {"run", "metric", "submodels", "chosen"}
    sizes = document("frontier", "--cost=size_mb")["submodels"]
    assert [each["name"] for each in sizes if each["pareto"]] == [
        each["name"] for each in weighed["submodels"] if each["pareto"]
    ]
    cut = document("extract", "--max-size-mb=1000", "--out=cut")["submodel"]
    assert cut["size_mb"] > 0 and "memory_mb" not in cut


def test_a_table_shows_what_was_asked_for(home: Path) -> None:
    done = command("frontier", RUN, "--cost=memory", "--max-size-mb=1000", "--all", "--quiet")
    assert done.code == 0, done
    heading, *lines = done.out.splitlines()
    assert "size MB" in heading and "memory MB" in heading
    assert len(lines) == 4
    assert "on the frontier of validation accuracy against memory_mb" in (
        command("frontier", RUN, "--cost=memory", "--quiet").out
    )


def test_the_picture_says_what_a_score_costs(home: Path) -> None:
    for cost in every_cost():
        assert command("frontier", f"--cost={cost.name}", "--plot=a.svg", "--quiet").code == 0
        assert f"<!-- {cost.label} -->" in Path("a.svg").read_text()
