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
        "no sub-model fits energy_uj <= 1; the smallest has ",
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
    ("value", "source", "said"),
    [
        ("nowhere:Energy", SOURCE, "'energy_uj' (nowhere:Energy) cannot be loaded: No module"),
        ("toy:Path", SOURCE, "'energy_uj' (toy:Path) is no subclass of sortednet_cli."),
        ("toy:Energy", SOURCE.replace('"energy_uj"', '"power"'), "calls itself 'power'"),
        ("toy:Energy", SOURCE.replace("def compute", "def count"), "lacks compute"),
        ("toy:Energy", SOURCE.replace("units =", "u =").replace("help =", "h ="), "lacks help, "),
        ("toy:Energy", f"{SOURCE}\n    def __init__(self):\n        raise OSError('no chip')\n",
         "'energy_uj' (toy:Energy) failed: no chip"),
        ("toy:Energy", "raise SystemExit('leaving')", "cannot be loaded: leaving"),
    ],
    ids=["missing", "class", "name", "unfinished", "words", "constructor", "exit"],
)  # fmt: skip
def test_a_broken_one_is_left_out_with_a_warning(
    home: Path, value: str, source: str, said: str
) -> None:
    points = {"sortednet.costs": {"energy_uj": value}}
    with installed(home.parent, {"toy.py": source}, points):
        for arguments in (["frontier", "--quiet"], ["extract", "--help"]):
            done = command(*arguments)
            assert (done.code, done.err.count(said), done.err.count("\n")) == (0, 1, 1), done
            assert done.err.startswith("sortednet.costs: 'energy_uj'")
            assert done.err.endswith("; this cost is left out\n")
        done = command("frontier", "--cost=energy_uj", "--quiet")
        assert done.code == 2 and said in done.err.partition("error: sortednet.costs: ")[2]
        done = command("frontier", "--max-energy-uj=2")
        assert done.code == 2 and "o such option" in done.err and said in done.err
        for arguments in (["eval", "--quiet"], ["--help"], ["info"]):
            done = command(*arguments)
            assert (done.code, done.err.count(said)) == (0, 0), done


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("params", ["frontier", "--max-params=1M"], "is not used: sortednet-cli has its own"),
        (
            "shard_size",
            ["extract", "--max-shard-size=1M"],
            "--max-shard-size is another option here",
        ),
        ("a-b", ["frontier"], "'a-b' is no name of a cost: take small letters, digits and _"),
        ("size-mb", ["frontier", "--max-size-mb=1"], "'size-mb' is no name of a cost"),
    ],
)
def test_a_name_that_means_something_else_keeps_its_meaning(
    home: Path, name: str, arguments: list[str], said: str
) -> None:
    points = {"sortednet.costs": {name: "toy:Energy"}}
    with installed(home.parent, {"toy.py": SOURCE.replace("energy_uj", name)}, points):
        done = command(*arguments, "--quiet")
    assert (done.code, done.err.count(said), done.err.count("\n")) == (0, 1, 1), done


@pytest.mark.parametrize("name", ["cost", "format", "plot", "class"])
def test_a_name_may_be_that_of_anything_without_such_a_flag(home: Path, name: str) -> None:
    source = SOURCE.replace("energy_uj", name).replace('unit = "uJ"', "")
    with installed(home.parent, {"toy.py": source}, {"sortednet.costs": {name: "toy:Energy"}}):
        rows = document("frontier", f"--cost={name}", "--plot=a.svg")["submodels"]
        limit = max(row[name] for row in rows)
        assert document("frontier", f"--max-{name}={limit}")["chosen"][name] <= limit
        cut = document("extract", f"--max-{name}={limit}", "--format=safetensors", "--out=cut")
        assert cut["submodel"][name] <= limit


def test_two_packages_with_one_name_disturb_nobody_else(home: Path) -> None:
    other = {"sortednet.costs": {"energy_uj": "other:Energy"}}
    with (
        installed(home.parent, {"toy.py": SOURCE}, POINTS),
        installed(home.parent, {"other.py": SOURCE}, other, name="other"),
    ):
        done = command("frontier", "--quiet")
        assert done.code == 0
        assert (
            "two packages add 'energy_uj': other:Energy and toy:Energy; uninstall one" in done.err
        )


@pytest.mark.parametrize("value", ["float('nan')", "float('inf')"])
def test_a_value_that_is_no_number_is_an_error(home: Path, value: str) -> None:
    source = SOURCE.replace("0.5 * source.rows[submodel].macs", value)
    with installed(home.parent, {"toy.py": source}, POINTS):
        done = command("frontier", "--cost=energy", "--json", "--quiet")
        refused(done, 1, "the cost energy_uj of w0.5-d1 is ")


def test_a_bug_names_what_extends_this_package(home: Path) -> None:
    source = SOURCE.replace("return 0.5", "raise KeyError('chip')")
    with installed(home.parent, {"toy.py": source}, POINTS):
        done = command("frontier", "--cost=energy", "--quiet")
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert last.startswith("error: this is a bug in sortednet or in toy:Energy, which extends it: ")
