"""Figures in README and docs are those of the committed results."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("script", "results", "page"),
    [
        ("digits_160.py", "digits_160.json", "README.md"),
        ("digits_160.py", "digits_160.json", "docs/recipes.md"),
        ("soft_cost.py", "soft_cost.json", "docs/recipes.md"),
        ("cifar10_resnet.py", "cifar10_resnet.json", "docs/recipes.md"),
    ],
)
def test_a_table_is_what_its_script_prints(script: str, results: str, page: str) -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / results).read_text(encoding="utf-8"))
    table = runpy.run_path(str(ROOT / "benchmarks" / script))["table"]
    assert table(result) in (ROOT / page).read_text(encoding="utf-8")


def test_the_claim_on_digits() -> None:
    """160 sub-models, all at 97% or more of the largest alone, the smallest under 10% of it."""
    file = ROOT / "benchmarks" / "results" / "digits_160.json"
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["submodels"] == 160
    assert len(result["seeds"]) == 3
    assert result["macs_percent"] < 10
    assert all(seed["worst_percent_of_alone"] >= 97 for seed in result["seeds"])
    runs = [run for run in result["runs"]["nested"] if not run.get("tuning_only")]
    for run, seed in zip(runs, result["seeds"], strict=True):
        scores = [row["metrics"]["test"]["accuracy"] for row in run["rows"]]
        assert len({json.dumps(row["axes"]) for row in run["rows"]}) == 160
        assert seed["worst"] == min(scores)
