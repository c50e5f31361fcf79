"""`sortednet report` without a browser: what it holds, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sortednet_cli.data.nominal import nominal_format
from sortednet_cli.engine.evaluation import latency
from sortednet_cli.engine.reporting import curves, document, page
from sortednet_cli.engine.reporting.layers import layer_tables
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.errors import WorkError
from sortednet_cli.families import open_family, root_of
from sortednet_cli.nesting.plan import plan_from_root
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import load_preset
from sortednet_cli.storage.sources import read_source
from tests.commands import TINY, command, listing, refused, refused_all
from tests.sealing import reseal, unfinished

RUN = Path("runs/digits-resnet")
OTHER = Path("runs/other")


def data_of(path: Path) -> Any:
    """What the page at a path holds."""
    (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', read(path))
    return json.loads(block)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_it_prints_its_path_alone_and_takes_free_names(home: Path) -> None:
    first, second = command("report"), command("report", RUN, "--json", "--quiet")
    assert (first.code, first.out) == (0, "report.html\n"), first
    assert (second.code, second.err) == (0, ""), second
    assert json.loads(second.out) == {"path": "report-2.html"}
    assert read(Path("report.html")) == read(Path("report-2.html"))


def test_it_holds_what_the_other_commands_print(home: Path) -> None:
    assert command("report", "--cost=memory", "--quiet", "--out=a.html").code == 0
    found = data_of(Path("a.html"))
    (run,) = found["runs"]
    names = [cost["name"] for cost in found["costs"]]
    assert names == ["macs", "params", "size_mb", "memory_mb"]
    for number, name in enumerate(names):
        told = json.loads(command("frontier", f"--cost={name}", "--json", "--quiet").out)
        rows = told["submodels"]
        column = run["costs"][name]
        assert column["values"] == [row[name] for row in rows], name
        assert column["frontier"] == [i for i, row in enumerate(rows) if row["pareto"]], name
        assert number or run["scores"] == [row["metrics"]["accuracy"] for row in rows]
    layers = run["layers"]
    for values, (own, pieces) in zip(run["values"], layers["plans"], strict=True):
        width, depth = values
        told = command("info", RUN, "--plan", f"--width={width}", f"--depth={depth}").out
        names = layers["names"][own]
        shown = [layers["slices"][piece] for piece in pieces]
        shown += ["(its own)"] * (len(names) - len(pieces))
        printed = [re.split(r"\s+<- ", line) for line in told.splitlines()]
        assert [list(pair) for pair in zip(names, shown, strict=True)] == printed
    log = [json.loads(line) for line in (RUN / "metrics.jsonl").read_text().splitlines()]
    for key in ("update", "loss", "lr"):
        assert run["curves"][key] == [entry[key] for entry in log]


def test_a_long_log_is_thinned(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float | None] = [1.0, 3.0, None, None, 5.0]
    lines = [{"update": n, "loss": loss, "lr": n / 10} for n, loss in enumerate(losses, 1)]
    (RUN / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    reseal(RUN)
    monkeypatch.setattr(curves, "MAX_POINTS", 3)
    assert curves.read_curves(read_source(RUN)) == {
        "lines_each": 2,
        "update": [2, 4, 5],
        "loss": [2.0, None, 5.0],
        "lr": [0.2, 0.4, 0.5],
    }


def test_too_many_layers_are_left_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "_MOST_TABLES", 3)
    assert command("report", "--quiet").code == 0
    assert data_of(Path("report.html"))["runs"][0]["layers"] is None


def test_an_artifact_has_no_curves(home: Path) -> None:
    assert command("extract", "--width=1", "--depth=1", "--out=cut", "--quiet").code == 0
    assert command("report", "cut", RUN, "--quiet").code == 0
    first, second = data_of(Path("report.html"))["runs"]
    assert (len(first["names"]), first["curves"]) == (2, None)
    assert second["curves"]


def test_measured_costs_say_how_they_were_measured(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "latency_ms", lambda *arguments: 1.5)
    assert command("report", "--cost=latency", "--quiet").code == 0
    *_, cost = data_of(Path("report.html"))["costs"]
    assert (cost["name"], cost["conditions"]["batch_size"]) == ("latency_ms", 1)


def test_layers_of_160_networks_are_small() -> None:
    spec = load_preset("cifar10-mobilenetv2", [])
    family = open_family(root_of(spec.model, spec.task, nominal_format(spec).facts()))
    source = SimpleNamespace(plan=lambda submodel: plan_from_root(family, submodel))
    submodels = SearchSpace.of(spec.space).submodels
    tables = layer_tables(cast(Source, source), submodels, lambda done, submodel: None)
    assert len(tables["plans"]) == 160
    assert len(json.dumps(tables)) + len(page._library()) < 2_000_000  # of the 5 MB of a page


def test_wrong_requests(home: Path) -> None:
    Path("taken.html").touch()
    Path("empty").mkdir()
    shutil.copytree(RUN, OTHER)
    unfinished(OTHER)
    refused_all(home, [["report", RUN, OTHER]], f"{OTHER} has no finished weights yet")
    shutil.copytree(OTHER, "two words")
    refused_all(home, [["report", "two words"]], "sortednet train --resume 'two words'")
    refused_all(home, [["report", "empty"]], "empty is neither a run nor an artifact")
    refused_all(home, [["report", "nowhere"]], "no run at nowhere")
    refused_all(home, [["report", RUN, RUN], ["report", RUN, f"{RUN}/../../{RUN}"]], "given twice")
    refused_all(home, [["report", "--out=taken.html"]], "taken.html exists; choose another --out")
    refused_all(home, [["report", "--out=no/a.html"]], "there is no folder")
    refused_all(home, [["report", "--out=a.pdf"]], "--out a.pdf: the name must end in .html")
    refused_all(home, [["report", "--cost=price"]], "the costs are params, macs")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no folder that takes no files")
def test_a_place_that_takes_no_file(home: Path) -> None:
    before = listing(home)
    refused(command("report", "--out=/proc/a.html", "--quiet"), 1, "cannot write /proc/a.html")
    assert listing(home) == before


def _as_text(run: Path) -> None:
    """Give a run the data of a language model, which is scored by perplexity."""
    file = run / "run.json"
    form = {"task": "causal-lm", "vocab_size": 9, "max_length": 9, "classes": [], "pad_id": 0}
    form |= {"bos_id": None, "eos_id": None, "source": "text"}
    file.write_text(json.dumps({**json.loads(file.read_text()), "data": form}))
    reseal(run)


def test_runs_of_two_metrics(home: Path) -> None:
    shutil.copytree(RUN, OTHER)
    _as_text(OTHER)
    refused_all(
        home,
        [["report", RUN, OTHER]],
        f"need a report each: {RUN} (accuracy), {OTHER} (perplexity)",
    )


def test_a_factory_that_is_not_allowed(home: Path) -> None:
    shutil.copytree(RUN, OTHER)
    file = OTHER / "run.json"
    table = json.loads(file.read_text())
    table["root"]["declaration"]["factory"] = "math:floor"
    file.write_text(json.dumps(table))
    reseal(OTHER)
    refused_all(home, [["report", RUN, OTHER]], "--allow-factory math:floor")


def test_runs_on_different_data(home: Path) -> None:
    shutil.copytree(RUN, OTHER)
    spec = OTHER / "spec.toml"
    spec.write_text(spec.read_text().replace("split_seed = 0", "split_seed = 1"))
    reseal(OTHER)
    done = command("report", RUN, OTHER)
    assert done.code == 0 and "scored on different data" in done.err
    assert data_of(Path("report.html"))["same_data"] is False
    assert "different data" not in command("report", RUN).err


@pytest.mark.parametrize("line", ["{", "[]", '{"update": 1, "loss": "x", "lr": 0.1}', "null"])
def test_a_damaged_log(home: Path, line: str) -> None:
    log = RUN / "metrics.jsonl"
    log.write_text(log.read_text() + line + "\n")
    refused_all(home, [["report", "-q"]], f"{log} is damaged: it has")
    reseal(RUN)
    refused_all(home, [["report", "-q"]], f"{log} is damaged: line", "no update, loss and lr")


def test_a_frontier_is_plotted_as_the_same_page(home: Path) -> None:
    """Also over a file; what was measured for the frontier is not measured again."""
    Path("a.html").write_text("an older page")
    assert command("report", "--out=b.html", "--quiet").code == 0
    done = command("frontier", "--plot=a.html", "--json")
    assert done.code == 0 and "wrote a.html" in done.err, done
    assert read(Path("a.html")) == read(Path("b.html"))
    done = command("frontier", "--cost=latency", "--plot=a.html", "--max-params=1M", "--json")
    found = json.loads(done.out)["submodels"]
    (run,) = data_of(Path("a.html"))["runs"]
    assert run["costs"]["latency_ms"]["values"] == [row["latency_ms"] for row in found]


def test_a_training_writes_its_report(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = command("train", *TINY, "--set=train.report=true", "--out=run")
    assert (done.code, done.out) == (0, "run\n"), done
    assert "wrote run/report.html" in done.err
    assert data_of(Path("run/report.html"))["runs"][0]["path"] == "run"
    checked = command("info", "run", "--check")
    assert checked.code == 0 and "report.html" not in checked.err, checked
    monkeypatch.setattr("sortednet_cli.engine.reporting.write.write_page", _full)
    done = command("train", *TINY, "--set=train.report=true", "--out=other", "--quiet")
    assert (done.code, done.out) == (0, "other\n"), done
    assert "the run has no report: cannot write: no space" in done.err


def _full(*arguments: object) -> None:
    raise WorkError("cannot write: no space")


def test_without_the_extra(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(page, "find_spec", lambda n: None if n == "vl_convert" else found(n))
    fix = "needs: pip install '.[report]' in your checkout"
    refused_all(home, [["report"]], f"report {fix}")
    refused_all(home, [["frontier", "--plot=a.html"]], f"--plot a.html {fix}")
    training = ["train", *TINY, "--set=train.report=true"]
    refused_all(home, [training], f"train.report = true {fix}")
