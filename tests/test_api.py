"""The Python interface does what the commands do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sortednet_cli import Frontier, evaluate, extract, frontier, load_artifact, load_run, train
from sortednet_cli.errors import RequestError, as_arguments

TINY = {"train.updates": 2, "space.width": [0.5, 1.0], "space.depth": [3]}


def test_ten_lines_train_choose_and_extract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    events: list[object] = []
    run = train("digits-resnet", TINY, out="run", device="cpu", on_event=events.append)
    found = frontier(run, limits={"params": "60k", "size_mb": 0.3})
    assert found.chosen is not None
    folder = extract(run, found.chosen.submodel.axes, out="cut")
    model = load_artifact(folder).module()
    inputs = torch.zeros(1, 1, 8, 8)
    view = load_run(run).network().at(found.chosen.submodel)
    assert torch.equal(model(inputs), view(inputs))
    (row,) = evaluate(folder, {}, device="cpu")
    assert row.metrics["test"] == found.chosen.metrics["test"]
    assert [r.submodel.name for r in evaluate(run, device="cpu")] == ["w0.5-d3", "w1-d3"]
    assert (run, folder, len(events)) == (Path("run"), Path("cut"), 5)


def test_a_frontier_is_shown_in_a_line(home: Path) -> None:
    found = frontier("runs/digits-resnet", limits={"params": "1G"})
    assert isinstance(found, Frontier) and found.chosen is not None
    name = found.chosen.submodel.name
    said = "of 4 sub-models on the frontier of validation accuracy against macs, chosen"
    assert f"{said} {name})" in repr(found) and len(repr(found)) < 150


def test_the_example_of_the_reference_runs(work: Path) -> None:
    page = (Path(__file__).parents[1] / "docs/reference/python.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(from sortednet_cli import .*?)```", page, re.S)
    shorter = '{"train.updates": 3, "space.width": [0.5, 1.0], "train.log_every": 1}'
    assert '{"train.epochs": 20}' in example
    exec(example.replace('{"train.epochs": 20}', shorter), {})
    assert Path("artifacts").is_dir()


def test_wrong_requests_of_the_interface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="give either preset or config"):
        train()
    with pytest.raises(
        RequestError, match=r"no cost 'size' \(did you mean size_mb\?\): the costs are"
    ):
        frontier("run", limits={"size": 3})
    with pytest.raises(RequestError, match="no run at run"):
        extract("run", {"width": 0.5})
    with pytest.raises(RequestError, match=r"split 'tets' \(did you mean test\?\): the parts"):
        evaluate("run", split="tets")


@pytest.mark.parametrize(
    ("request_it", "message"),
    [
        (lambda: frontier("r", cost="time"), "cost 'time': the costs are params, macs"),
        (lambda: frontier("r", limits={"params": "abc"}), r"limits\['params'\]: 'abc' is not"),
        (lambda: extract("r", file_format="zip"), "file_format 'zip': the formats are"),
        (lambda: train("digits-resnet", TINY, out="r"), "r exists; choose another out or remove"),
        (lambda: train("digits-resnet", {"lr..x": 1}), "settings 'lr..x=1': write it as a.b=value"),
        (lambda: train("digits-resnet", data="no"), r"data.path \(or data\): the digits are"),
        (lambda: evaluate("r", device="tpu"), "no run at r|r is neither a run nor an artifact"),
        (lambda: frontier("."), "^. is neither a run nor an artifact$"),
    ],
)
def test_errors_name_arguments_and_no_options(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request_it: Callable[[], object],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r").mkdir()
    with pytest.raises(RequestError, match=message) as refused:
        request_it()
    assert "--" not in str(refused.value)


def test_whole_commands_in_an_error_stay_commands() -> None:
    said = "no run; train one with: sortednet train --preset digits-resnet, or give --out"
    assert as_arguments(said).endswith("sortednet train --preset digits-resnet, or give out")


def test_what_is_of_another_kind_is_named_with_what_opens_it(tmp_path: Path) -> None:
    for name in ("run/run.json", "cut/sortednet.json"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.raises(RequestError, match="run is a run: open it with load_run"):
        load_artifact(tmp_path / "run")
    with pytest.raises(RequestError, match=r"cut is an artifact.*open it with load_artifact"):
        load_run(tmp_path / "cut")
