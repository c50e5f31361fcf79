"""The Python interface does what the commands do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sortednet_cli import evaluate, extract, frontier, load_artifact, load_run, train
from sortednet_cli.errors import RequestError

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


def test_wrong_requests_of_the_interface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="give either preset or config"):
        train()
    with pytest.raises(RequestError, match="no cost 'size': the costs are params, macs"):
        frontier("run", limits={"size": 3})
    with pytest.raises(RequestError, match="no run at run"):
        extract("run", {"width": 0.5})
