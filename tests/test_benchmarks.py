"""What the benchmarks of accuracy rest on: equal budgets, fair shares, trainings kept."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.commands import TINY
from tests.sealing import unfinished

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _scripts_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def _script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(FOLDER / f"{name}.py"))


def test_every_rule_gets_the_same_multiply_adds() -> None:
    """Four widths of costs 1, 0.56, 0.25 and 0.065: a sandwich of all takes their sum."""
    updates_for, rules = _script("rules")["updates_for"], _script("rules")["RULES"]
    found = {
        name: updates_for("cifar10-cpreresnet20", rules[name], 128_000)
        for name in ("single", "sorted", "sandwich", "sandwich, distilled")
    }
    costs = [33_744_000, 19_070_000, 8_550_000, 2_200_000]
    assert found["single"] == 1000
    assert found["sandwich"] == pytest.approx(1000 * costs[0] / sum(costs), rel=0.01)
    assert found["sandwich, distilled"] == found["sandwich"]  # the teacher is trained anyway
    assert found["sorted"] == pytest.approx(4000 * costs[0] / sum(costs), rel=0.01)


def test_twins_are_spread_from_the_largest_to_the_smallest() -> None:
    rows = [{"name": str(macs), "macs": macs} for macs in (5, 1, 9, 3, 7)]
    spread = _script("lone_twins")["spread"]
    assert [row["macs"] for row in spread(rows, 3)] == [9, 5, 1]
    assert [row["macs"] for row in spread(rows, None)] == [9, 7, 5, 3, 1]


def test_a_share_is_how_often_a_rule_trains_a_sub_model() -> None:
    shares_of = _script("lone_twins")["shares_of"]
    found = shares_of("cifar10-cpreresnet20", ["train.rule=sorted"])
    assert set(found.values()) == {0.25}
    found = shares_of("cifar10-cpreresnet20", ["train.rule=sandwich", "train.num_random=1"])
    assert found["w1"] == found["w0.25"] == 1
    assert found["w0.5"] + found["w0.75"] == pytest.approx(1)


def test_a_page_is_filled_between_its_marks() -> None:
    filled = _script("pages")["filled"]
    page = "a\n<!-- table: data_rate.py data_rate.json -->\nold\n<!-- end -->\nb\n"
    new = filled(page)
    assert new.startswith("a\n<!-- table: data_rate.py data_rate.json -->\n|")
    assert new.endswith("|\n<!-- end -->\nb\n")
    assert filled(new) == new


def test_a_finished_training_is_read_and_an_interrupted_one_goes_on(tmp_path: Path) -> None:
    script = _script("trainings")
    settings = tuple(word.removeprefix("--set=") for word in TINY if word.startswith("--set="))
    training = script["Training"]("one", "digits-resnet", settings)
    trainer = script["Trainer"](tmp_path)
    (first,) = trainer.results([training])
    run = trainer.folder(training)
    written = (run / "weights.safetensors").stat().st_mtime_ns
    (again,) = trainer.results([training])
    assert again == first
    assert (run / "weights.safetensors").stat().st_mtime_ns == written
    assert [row["name"] for row in first["rows"]] == sorted({r["name"] for r in first["rows"]})
    unfinished(run)
    for name in ("weights.safetensors", "statistics.safetensors"):
        (run / name).unlink()
    (resumed,) = trainer.results([training])
    assert resumed["rows"] == first["rows"]
