"""Latency in the runtime of an export format: which is measured, on what, and how it is told.

The law: one command takes every latency from one runtime, and says from which.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sortednet_cli.engine.evaluation import latency
from sortednet_cli.engine.export import alone
from sortednet_cli.engine.export.formats.onnx import Onnx
from sortednet_cli.engine.export.latencies import runtimes
from sortednet_cli.space import SubModel
from tests.commands import command, refused, refused_all
from tests.extension import installed

SOURCE = '''
from sortednet_cli.engine.export.formats import Format


class Chip(Format):
    """For somebody's chip, whose simulator is here."""

    name = "chip"
    card = "is for a chip."
    runtime = "chipsim"

    def write(self, module, inputs, file):
        file.write_text("chip")
        self.module = module

    def open(self, file, threads=1):
        return self.module
'''
POINTS = {"sortednet.formats": {"chip": "toy:Chip"}}


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[str]]]:
    """The sub-models that are measured, by runtime; each takes a millisecond more."""
    measured: dict[str, list[str]] = {}

    def torch_ms(network: object, submodel: SubModel, inputs: object) -> float:
        names = measured.setdefault("torch", [])
        names.append(submodel.name)
        return float(len(names))

    def exported_ms(
        source: object, network: object, submodel: SubModel, file_format: Any, file: Path
    ) -> float:
        names = measured.setdefault(file_format.runtime, [])
        names.append(submodel.name)
        return float(len(names))

    monkeypatch.setattr(latency, "latency_ms", torch_ms)
    monkeypatch.setattr(alone, "exported_latency_ms", exported_ms)
    yield measured


def document(*arguments: str) -> Any:
    done = command(*arguments, "--json", "--quiet")
    assert (done.code, done.err) == (0, ""), done
    return json.loads(done.out)


BOUND = "--max-latency-ms=100"


@pytest.mark.parametrize(
    ("arguments", "runtime"),
    [
        (["frontier", BOUND], "torch"),
        (["frontier", "--cost=latency", "--runtime=torch"], "torch"),
        (["frontier", "--cost=latency", "--runtime=onnxruntime"], "onnxruntime"),
        (["frontier", BOUND, "--runtime=onnxruntime"], "onnxruntime"),
        (["frontier", "--cost=latency", BOUND, "--runtime=onnxruntime"], "onnxruntime"),
        (["extract", BOUND], "torch"),
        (["extract", BOUND, "--format=onnx"], "onnxruntime"),
        (["extract", BOUND, "--format=onnx", "--runtime=torch"], "torch"),
        (["extract", BOUND, "--runtime=onnxruntime"], "onnxruntime"),
        (["extract", BOUND, "--format=pt2"], "torch"),
    ],
)
def test_every_latency_of_a_command_is_of_one_runtime_which_it_names(
    home: Path, timed: dict[str, list[str]], arguments: list[str], runtime: str
) -> None:
    found = document(*arguments, *(["--out=cut"] if arguments[0] == "extract" else []))
    assert [*timed] == [runtime] and len(timed[runtime]) == 4
    assert found["latency"] == {
        "runtime": runtime,
        **({"file_format": "onnx"} if runtime == "onnxruntime" else {}),
        "batch_size": 1,
        "threads": 1,
        "device": "cpu",
    }


def test_it_is_measured_for_what_the_other_bounds_leave(
    home: Path, timed: dict[str, list[str]]
) -> None:
    stored = document("frontier")["submodels"]
    most = sorted(each["params"] for each in stored)[1]
    fitting = [each["name"] for each in stored if each["params"] <= most]
    bounds = (f"--max-params={most}", "--max-latency-ms=1.5", "--format=onnx")
    cut = document("extract", *bounds, "--out=cut")
    assert timed == {"onnxruntime": fitting} and len(fitting) == 2
    assert cut["submodel"]["name"] == fitting[0] and cut["submodel"]["latency_ms"] == 1


def test_what_is_measured_is_the_written_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sub-model's own, one image at a time, with the threads that are told."""
    opened, open_file, seen = [], Onnx.open, []

    def open_and_look(self: Onnx, file: Path, threads: int = 1) -> Any:
        opened.append((file.read_bytes(), threads))
        run = open_file(self, file, threads)

        def run_and_look(inputs: Any) -> torch.Tensor:
            seen.append(tuple(inputs.shape))
            return run(inputs)

        return run_and_look

    monkeypatch.setattr(Onnx, "open", open_and_look)
    found = document("frontier", "--cost=latency", "--runtime=onnxruntime")
    assert len({content for content, _ in opened}) == len(found["submodels"]) == 4
    assert {threads for _, threads in opened} == {found["latency"]["threads"]} == {1}
    assert {*seen} == {(1, 1, 8, 8)}
    assert len(seen) == 4 * (latency.WARMUP + latency.REPEATS)
    assert all(0 < row["latency_ms"] < 1000 for row in found["submodels"])


def test_a_plot_says_the_runtime(home: Path, timed: dict[str, list[str]]) -> None:
    document("frontier", "--cost=latency", "--runtime=onnxruntime", "--plot=a.svg")
    assert "<!-- latency in onnxruntime, ms (batch size 1) -->" in Path("a.svg").read_text()


def test_what_cannot_be_measured_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "--runtime 'onnxruntim' (did you mean onnxruntime?): the runtimes are torch, onnxruntime"
    latencies = ["--cost=latency"]
    refused_all(home, [["frontier", *latencies, "--runtime=onnxruntim"]], said)
    unused = "--runtime torch: the request takes no latencies; add --max-latency-ms T"
    requests = [["frontier"], ["extract", "--width=1"], ["extract", "--max-params=1M"]]
    refused_all(home, [[*each, "--runtime=torch"] for each in requests], unused)
    said = "--device cuda: onnxruntime runs on the CPU here; name cpu, or --runtime torch"
    requests = [
        ["frontier", *latencies, "--runtime=onnxruntime", "--device=cuda"],
        ["extract", BOUND, "--format=onnx", "--device=cuda"],
    ]
    refused_all(home, requests, said)
    monkeypatch.setattr(Onnx, "packages", ("onnx", "no_such"))
    requests = [["frontier", *latencies, "--runtime=onnxruntime"]]
    refused_all(home, requests, "--format onnx needs: pip install '.[onnx]' in your checkout")


def test_the_runtime_of_another_package_is_measured_too(home: Path) -> None:
    with installed(home.parent, {"toy.py": SOURCE}, POINTS):
        assert runtimes()[-1] == "chipsim"
        found = document("frontier", "--cost=latency", "--runtime=chipsim")
        assert (found["latency"]["runtime"], found["latency"]["file_format"]) == ("chipsim", "chip")
        assert all(row["latency_ms"] > 0 for row in found["submodels"])
    absent = SOURCE.replace("return self.module", "return None")
    with installed(home.parent, {"toy.py": absent}, POINTS):
        words = ("extract", BOUND, "--format=chip", "--quiet")
        refused(command(*words), 2, "nothing here runs chipsim: give --runtime torch, or --laten")
