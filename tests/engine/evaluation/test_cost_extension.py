"""A cost of another package: its flag, its `--cost` and its JSON by one entry point."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_shell import HEAVY, ROW_KEYS
from tests.commands import command, environment, refused
from tests.extension import installed

SOURCE = '''
from pathlib import Path

from sortednet_cli.engine.evaluation.costs import ComputedCost

Path("IMPORTED").touch()


class Energy(ComputedCost):
    """Microjoules of a multiply-add, in a table of somebody's chip."""

    name = "energy_uj"
    unit = "uJ"
    units = "microjoules"
    label = "energy of a sample, uJ"
    help = "Budget in microjoules of a sample."

    def compute(self, source, submodel):
        return 0.5 * source.rows[submodel].macs
'''
POINTS = {"sortednet.costs": {"energy_uj": "toy:Energy"}}


@pytest.fixture
def toy(home: Path) -> Iterator[Path]:
    with installed(home.parent, {"toy.py": SOURCE}, POINTS) as files:
        assert files == ["toy.py"]
        yield home


def document(*arguments: str) -> Any:
    done = command(*arguments, "--json", "--quiet")
    assert (done.code, done.err) == (0, ""), done
    return json.loads(done.out)


def test_it_has_a_flag_with_its_own_words(toy: Path) -> None:
    for name in ("frontier", "extract"):
        words = " ".join(command(name, "--help").out.split())
        assert "--max-energy-uj N Budget in microjoules of a sample." in words
    assert "latency_ms, energy_uj" in " ".join(command("frontier", "--help").out.split())
    refused(command("frontier", "--max-energy-uj=x"), 2, "'x' is not a positive number of microj")
    refused(command("frontier", "--cost=price"), 2, "latency_ms, energy_uj")


def test_frontiers_are_weighed_by_it(toy: Path) -> None:
    for name in ("energy", "energy_uj"):
        found = document("frontier", f"--cost={name}", "--plot=a.svg")
        for row in found["submodels"]:
            assert row.keys() == ROW_KEYS | {"energy_uj"}
            assert row["energy_uj"] == 0.5 * row["macs"]
        by_macs = document("frontier")["submodels"]
        assert [row["pareto"] for row in found["submodels"]] == [row["pareto"] for row in by_macs]
    assert "<!-- energy of a sample, uJ -->" in Path("a.svg").read_text()
    shown = command("frontier", "--cost=energy", "--all", "--quiet").out
    assert "energy uJ" in shown.splitlines()[0]


def test_budgets_are_bounded_by_it(toy: Path) -> None:
    rows = document("frontier", "--cost=energy")["submodels"]
    limit = sorted(row["energy_uj"] for row in rows)[1]
    bounds = (f"--max-energy-uj={limit}", "--max-params=1M", "--max-latency-ms=1e6")
    chosen = document("frontier", *bounds)["chosen"]
    assert chosen["energy_uj"] <= limit
    best = max(row["metrics"]["accuracy"] for row in rows if row["energy_uj"] <= limit)
    assert chosen["metrics"]["accuracy"] == best
    cut = document("extract", *bounds, "--out=cut")["submodel"]
    assert (cut["name"], cut["energy_uj"]) == (chosen["name"], chosen["energy_uj"])
    refused(
        command("extract", "--max-energy-uj=1", "--max-params=1M", "--out=none", "--quiet"),
        2,
        "no sub-model fits params <= 1M and energy_uj <= 1; the least there is: params 414,",
        "energy_uj <= 1 rules out all of them",
    )


def test_nothing_of_it_is_imported_before_a_command_needs_costs(toy: Path) -> None:
    for arguments in (["--help"], ["presets"], ["eval"], ["info"]):
        assert command(*arguments).code == 0
    assert not Path("IMPORTED").exists()
    script = (
        "import sys; from sortednet_cli.cli.main import run\n"
        "run(['frontier', '--max-energy-uj=x']); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=environment(fresh=True),
    )
    assert "--max-energy-uj: 'x' is not" in done.stderr
    assert Path("IMPORTED").exists()
    assert not set(HEAVY) & set(done.stdout.split())


@pytest.mark.parametrize(
    ("points", "source", "fragments"),
    [
        ({"energy_uj": "nowhere:Energy"}, SOURCE, ["'energy_uj'", "nowhere:Energy", "No module"]),
        ({"power": "toy:Energy"}, SOURCE, ["toy:Energy is no Cost named 'power'"]),
        ({"energy_uj": "toy:Path"}, SOURCE, ["toy:Path is no Cost named 'energy_uj'"]),
        ({"params": "toy:Energy"}, SOURCE, ["toy:Energy", "one of sortednet-cli's own", "params"]),
        (
            {"energy_uj": "toy:Energy"},
            SOURCE.replace("def compute", "def count"),
            ["'energy_uj' cannot be made of toy:Energy", "abstract"],
        ),
    ],
    ids=["missing", "name", "class", "taken", "unfinished"],
)
def test_a_broken_one_is_told_where_costs_are_used(
    home: Path, points: dict[str, str], source: str, fragments: list[str]
) -> None:
    with installed(home.parent, {"toy.py": source}, {"sortednet.costs": points}):
        for arguments in (["frontier"], ["extract", "--help"]):
            refused(command(*arguments), 2, "sortednet.costs: ", *fragments)
        assert command("eval", "--quiet").code == 0
        assert command("--help").code == 0
