"""Latencies of another device as a cost: whose they are, what is chosen by them, what is refused.

The law: what `frontier` and `extract` choose by a file is what the file's own numbers say.
"""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sortednet_cli import frontier
from sortednet_cli.engine.evaluation.frontier import pareto
from sortednet_cli.errors import RequestError
from sortednet_cli.storage.latencies import root_digest
from sortednet_cli.storage.sources import read_source
from tests.cli.test_shell import HEAVY
from tests.commands import command, environment, refused, refused_all

RUN = Path("runs/digits-resnet")
FILE = Path("phone.json")
FIXTURES = Path(__file__).parents[2] / "fixtures"
CONDITIONS = {
    "runtime": "onnxruntime 1.20.0",
    "file_format": "onnx",
    "batch_size": 2,
    "threads": 4,
    "device": "somebody's phone",
}


def written(numbers: dict[str, Any] | None = None, **changes: Any) -> dict[str, float]:
    """Write a device's file for the run, and return its latencies by sub-model.

    Args:
        numbers: latencies that replace those of the same names.
        changes: entries of the file that replace others.
    """
    stored = read_source(RUN)
    assert stored.space is not None
    some = random.Random(7)
    times = {submodel.name: some.uniform(1, 9) for submodel in stored.space.submodels}
    table = {
        "format": 1,
        "run": "digits-resnet",
        "digest": root_digest(stored),
        "conditions": CONDITIONS,
        "warmup": 5,
        "repeats": 25,
        "latency_ms": {**times, **(numbers or {})},
        **changes,
    }
    FILE.write_text(json.dumps(table))
    return times


def document(*arguments: str) -> Any:
    done = command(*arguments, "--json", "--quiet")
    assert (done.code, done.err) == (0, ""), done
    return json.loads(done.out)


def test_the_frontier_is_that_of_the_numbers_in_the_file(home: Path) -> None:
    times = written()
    found = document("frontier", "--cost=latency", "--latencies=phone.json", "--plot=a.svg")
    rows = found["submodels"]
    assert {row["name"]: row["latency_ms"] for row in rows} == times
    points = [(row["metrics"]["accuracy"], times[row["name"]]) for row in rows]
    assert [row["pareto"] for row in rows] == pareto(points)
    assert found["latency"] == CONDITIONS
    label = "latency on somebody's phone, ms (batch size 2)"
    assert f"<!-- {label} -->" in Path("a.svg").read_text()
    told = command("frontier", "--cost=latency", "--latencies=phone.json", "--junit=a.xml").err
    for key, value in CONDITIONS.items():
        assert f'name="latency.{key}" value="{value}"' in Path("a.xml").read_text()
    assert "latency: runtime onnxruntime 1.20.0, file format onnx, batch size 2, threads 4" in told
    result = frontier(RUN, cost="latency_ms", latencies=FILE)
    assert {row.submodel.name: row.costs["latency_ms"] for row in result.rows} == times


def test_a_budget_chooses_the_best_that_the_device_runs_in_time(home: Path) -> None:
    times = written()
    rows = document("frontier")["submodels"]
    for limit in sorted(times.values()):
        bound = (f"--max-latency-ms={limit}", "--latencies=phone.json")
        fitting = [row for row in rows if times[row["name"]] <= limit]
        best = max(row["metrics"]["accuracy"] for row in fitting)
        chosen = document("frontier", *bound)["chosen"]
        assert chosen["latency_ms"] == times[chosen["name"]] <= limit
        assert chosen["metrics"]["accuracy"] == best
        cut = document("extract", *bound, f"--out=cut-{limit}")
        assert cut["submodel"]["name"] == chosen["name"]
        assert cut["submodel"]["latency_ms"] == times[chosen["name"]]
        assert cut["latency"] == CONDITIONS
    least = f"the smallest has {min(times.values()):.4g}"
    bound = ("--max-latency-ms=0.5", "--latencies=phone.json")
    refused(command("frontier", *bound), 2, "no sub-model fits latency_ms <= 0.5", least)


@pytest.mark.parametrize(("timed", "said"), [("pt2", 0), ("onnx-int8", 1)])
def test_times_of_another_format_are_warned_of(home: Path, timed: str, said: int) -> None:
    written(conditions={**CONDITIONS, "file_format": timed})
    bound = ("--max-latency-ms=100", "--latencies=phone.json", "--out=cut")
    done = command("extract", *bound, "--format=pt2", "--quiet")
    assert done.code == 0, done
    warning = "phone.json holds times of onnx-int8 files, which say nothing about the pt2 file"
    assert done.err.count(warning) == said == len(done.err.splitlines())


def test_an_artifact_takes_the_latencies_of_its_run(home: Path) -> None:
    times = written()
    assert command("extract", "--depth=8", "--width=1", "--out=cut", "--quiet").code == 0
    rows = document("frontier", "cut", "--cost=latency", "--latencies=phone.json")["submodels"]
    assert {row["name"]: row["latency_ms"] for row in rows} == times


@pytest.mark.parametrize("layout", ["format-1", "format-2"])
def test_the_digest_is_that_of_the_root_network(home: Path, layout: str) -> None:
    run, artifact = (read_source(FIXTURES / layout / kind) for kind in ("run", "artifact"))
    assert root_digest(run) == root_digest(artifact) != root_digest(read_source(RUN))
    again = ("train", f"--config={RUN / 'spec.toml'}", "--out=runs/again", "--quiet")
    assert command(*again, "--set=train.seed=1", "--set=train.updates=1").code == 0
    assert root_digest(read_source(Path("runs/again"))) == root_digest(read_source(RUN))


def test_nothing_is_measured_and_torch_is_not_imported(home: Path) -> None:
    written()
    script = (
        "import sys; from sortednet_cli.cli.main import run\n"
        "code = run(['frontier', '--cost=latency', '--latencies=phone.json', '--quiet',\n"
        "            '--max-latency-ms=100', '--all', '--json'])\n"
        "print(code, *sys.modules, file=sys.stderr)"
    )
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment())
    code, *modules = done.stderr.split()
    assert code == "0" and len(json.loads(done.stdout)["submodels"]) == 4
    assert not set(HEAVY) & set(modules)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"run": "other"}, "phone.json holds latencies of the run other, not digits-resnet"),
        ({"digest": "0" * 64}, "of another run digits-resnet, whose root network is not that of"),
        ({"latency_ms": {"w1-d8": 1.0}}, "lacks the latencies of 3 of 4 sub-models (w0.5-d1, "),
        ({"latency_ms": {}}, "lacks the latencies of 4 of 4 sub-models"),
        ({"latency_ms": [1.0]}, "phone.json is damaged: latency_ms: "),
        ({"format": 2}, "phone.json is damaged: format: "),
        ({"conditions": {}}, "phone.json is damaged: conditions.runtime: it is missing"),
        ({"conditions": {**CONDITIONS, "threads": 0}}, "is damaged: conditions.threads: "),
        ({"repeats": "many"}, "phone.json is damaged: repeats: "),
        ({"more": 1}, "phone.json is damaged: more: "),
    ],
)
def test_a_file_of_something_else_is_refused(home: Path, change: dict[str, Any], said: str) -> None:
    written(**change)
    options = ["--max-latency-ms=5", "--latencies=phone.json"]
    refused_all(home, [["frontier", *options], ["extract", *options]], said)


@pytest.mark.parametrize("time", [-1.0, 0, math.nan, math.inf, "fast", None, True])
def test_a_latency_is_a_positive_number(home: Path, time: object) -> None:
    written({"w1-d8": time})
    options = ["--max-latency-ms=5", "--latencies=phone.json"]
    said = "phone.json is damaged: latency_ms.w1-d8: "
    refused_all(home, [["frontier", *options], ["extract", *options]], said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read phone.json: No such file"),
        ("", "phone.json is damaged: it is not JSON"),
        ("[]", "phone.json is damaged: it holds no JSON object"),
        ('{"format": 1', "phone.json is damaged: it is not JSON"),
        ("{}", "phone.json is damaged: format: it is missing; run: it is missing"),
    ],
)
def test_a_damaged_file_is_refused(home: Path, content: str | None, said: str) -> None:
    if content is not None:
        FILE.write_text(content)
    refused_all(home, [["frontier", "--cost=latency", "--latencies=phone.json"]], said)


def test_it_must_be_asked_for_what_it_has(home: Path) -> None:
    written()
    both = ["--cost=latency", "--latencies=phone.json", "--runtime=torch"]
    refused_all(home, [["frontier", *both]], "give --runtime, to measure latencies here, or")
    unused = "--latencies phone.json: the request takes no latencies; add --max-latency-ms T"
    requests = [["frontier"], ["frontier", "--max-params=1M"], ["extract", "--width=1"]]
    refused_all(home, [[*each, "--latencies=phone.json"] for each in requests], unused)
    with pytest.raises(RequestError, match=r"^latencies phone.json: the request takes no latenc"):
        frontier(RUN, latencies=FILE)
