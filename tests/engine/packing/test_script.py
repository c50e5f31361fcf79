"""A bench pack, and its script as a device runs it: with the runtime and numpy, and nothing else.

The law: the pack holds the run's sub-models, and what the script writes is a cost of each of them.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from sortednet_cli import load_run
from sortednet_cli.engine.export import alone
from sortednet_cli.engine.packing import device_script, pack
from sortednet_cli.errors import WorkError
from tests.cli.test_bad_input import edit
from tests.commands import Done, command, listing, refused, refused_all
from tests.whole.test_language import PICO_RUN

RUN = Path("runs/digits-resnet")
BARE = """
import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
sys.argv = ["measure.py", *sys.argv[1:]]
runpy.run_path("measure.py", run_name="__main__")
"""
NAMES = ["w0.5-d1", "w0.5-d8", "w1-d1", "w1-d8"]


@pytest.fixture(scope="session")
def packed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bench pack of the tiny run; copy it before changing it."""
    out = tmp_path_factory.mktemp("packed") / "pack"
    done = command("bench-pack", trained, f"--out={out}", "--json", "--quiet")
    assert (done.code, done.err) == (0, ""), done.err
    sizes = [file.stat().st_size for file in (out / "models").rglob("*.onnx")]
    assert json.loads(done.out) == {"path": str(out), "models": 4, "bytes": sum(sizes)}
    return out


@pytest.fixture
def device(work: Path, packed: Path) -> Path:
    """A device's folder with the pack."""
    return Path(shutil.copytree(packed, work / "device"))


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages that has ONNX Runtime and numpy alone."""
    folder = tmp_path_factory.mktemp("packages")
    for name in ("onnxruntime", "numpy"):
        files = metadata.files(name) or []
        tops = {file.parts[0] for file in files if file.parts[0].startswith(name)}
        for top in tops:
            (folder / top).symlink_to(str(metadata.distribution(name).locate_file(top)))
    return folder


def measure(folder: Path, packages: Path | str, *arguments: str) -> Done:
    """Run the script in a Python without any packages but those in a folder."""
    words = [sys.executable, "-I", "-S", "-c", BARE, str(packages), *arguments]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


QUICK = ("--threads=1", "--repeats=3", "--warmup=1", "--device=a phone", "--out=phone.json")


def table(folder: Path) -> Any:
    return json.loads((folder / "phone.json").read_text())


def test_its_files_are_the_sub_models_of_the_run(packed: Path, trained: Path) -> None:
    source = load_run(trained)
    network, facts = source.network(), json.loads((packed / "pack.json").read_text())
    assert [*facts["models"]] == [submodel.name for submodel in source.space.submodels] == NAMES
    images = source.format.random_inputs(3)
    for submodel in source.space.submodels:
        session = onnxruntime.InferenceSession(str(packed / facts["models"][submodel.name]))
        (logits,) = session.run(None, {"inputs": images.numpy()})
        with torch.no_grad():
            expected = network.at(submodel).eval()(images)
        assert np.allclose(logits, expected.numpy(), atol=1e-4)


def test_a_device_measures_each_and_home_weighs_them(home: Path, device: Path, bare: Path) -> None:
    done = measure(device, bare, *QUICK)
    assert (done.code, done.out) == (0, "phone.json\n"), done
    assert [line.split()[0:2] for line in done.err.splitlines()] == [
        [f"{number}/4", name] for number, name in enumerate(NAMES, 1)
    ]
    latencies = table(device)["latency_ms"]
    assert [*latencies] == NAMES and all(0 < time < 1000 for time in latencies.values())
    words = ("frontier", "--cost=latency", f"--latencies={device / 'phone.json'}", "--json", "-q")
    found = json.loads(command(*words).out)
    assert {row["name"]: row["latency_ms"] for row in found["submodels"]} == latencies
    assert found["latency"] == {
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "file_format": "onnx",
        "batch_size": 1,
        "threads": 1,
        "device": "a phone",
    }


def test_texts_are_those_of_the_pack(work: Path, bare: Path) -> None:
    """Random numbers would be no tokens: the pack holds a text, which the script repeats."""
    settings = [f"--set={each}" for each in (*PICO_RUN, "space.depth=[1]", "space.width=[1.0]")]
    assert command("train", "--preset=pydoc-llama", *settings, "--quiet").code == 0
    assert command("bench-pack", "--out=pack", "--quiet").code == 0
    (ids, mask) = json.loads(Path("pack/pack.json").read_text())["inputs"]
    assert (ids["name"], mask["name"]) == ("input_ids", "attention_mask")
    assert ids["shape"] == mask["shape"] == [len(ids["sample"])] == [32]
    assert set(mask["sample"]) == {1} and all(0 <= token < 400 for token in ids["sample"])
    done = measure(Path("pack"), bare, *QUICK, "--batch-size=2")
    assert done.code == 0, done
    assert [*table(Path("pack"))["latency_ms"]] == ["w1-d1"]
    words = ("frontier", "--cost=latency", "--latencies=pack/phone.json", "--json", "--quiet")
    assert json.loads(command(*words).out)["latency"]["batch_size"] == 2


def test_larger_batches_take_longer(device: Path, bare: Path) -> None:
    assert measure(device, bare, *QUICK).code == 0
    one = table(device)["latency_ms"]["w1-d8"]
    many = ("--batch-size=256", "--out=many.json")
    assert measure(device, bare, *QUICK, *many).code == 0
    found = json.loads((device / "many.json").read_text())
    assert found["conditions"]["batch_size"] == 256
    assert found["latency_ms"]["w1-d8"] > 5 * one


def test_an_interrupted_run_continues(home: Path, device: Path, bare: Path) -> None:
    broken = device / "models" / "w1-d1" / "model.onnx"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    done = measure(device, bare, *QUICK)
    assert done.code == 1 and "error: models/w1-d1/model.onnx does not run: " in done.err, done
    begun = table(device)
    assert [*begun["latency_ms"]] == NAMES[:2]
    words = ("frontier", "--cost=latency", f"--latencies={device / 'phone.json'}")
    refused(command(*words), 2, "lacks the latencies of 2 of 4 sub-models (w1-d1, w1-d8)")
    broken.write_bytes(whole)
    other = measure(device, bare, *QUICK, "--threads=2")
    refused(other, 2, "phone.json exists and was measured with other models or options")
    assert table(device) == begun
    assert measure(device, bare, *QUICK).code == 0
    ended = table(device)
    assert [*ended["latency_ms"]] == NAMES
    assert {name: ended["latency_ms"][name] for name in NAMES[:2]} == begun["latency_ms"]
    assert not list(device.glob("*.part"))


def test_a_missing_runtime_is_one_message(device: Path) -> None:
    done = measure(device, "nowhere", *QUICK)
    refused(done, 2, "error: the models need onnxruntime: pip install onnxruntime")
    assert not (device / "phone.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--threads=0"], "--threads: '0' is not a positive integer"),
        (["--batch-size=x"], "--batch-size: 'x' is not a positive integer"),
        (["--device="], "--device: a name has 1 to 200 characters"),
        (["--out=no/a.json"], "--out no/a.json: there is no such folder"),
        (["--out=pack.json"], "pack.json exists and was measured with other models or options"),
        (["--out=measure.py"], "measure.py is damaged: it is not JSON"),
    ],
)
def test_wrong_options_are_refused(
    device: Path, bare: Path, arguments: list[str], said: str
) -> None:
    before = listing(device)
    refused(measure(device, bare, *QUICK, *arguments), 2, said)
    assert listing(device) == before


def test_the_script_is_the_file_of_the_package_in_the_grammar_of_old_pythons(packed: Path) -> None:
    text = (packed / pack.SCRIPT).read_text()
    assert text == Path(device_script.__file__).read_text()
    ast.parse(text, feature_version=(3, 9))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--format=pt2"],
            "runs onnxruntime, openvino, litert alone; the formats are onnx, onnx-int8",
        ),
        (
            ["--format=safetensors"],
            "--format safetensors: the script of a bench pack runs",
        ),
        (["--format=zip"], "the formats are safetensors, onnx"),
        (["--max-total-size=1k"], "--max-total-size: the weights of 4 sub-models have"),
        (["--max-total-size=much"], "--max-total-size"),
        (["--out=runs"], "runs exists"),
        (["nowhere"], "no run at nowhere"),
    ],
)
def test_what_cannot_be_packed_is_refused(home: Path, arguments: list[str], said: str) -> None:
    refused_all(home, [["bench-pack", *arguments]], said)


def test_a_pack_that_fails_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = alone.write_alone, []

    def fail_at_the_third(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise WorkError("verification failed: the outputs of model.onnx differ by 1")
        write(*arguments)

    monkeypatch.setattr(alone, "write_alone", fail_at_the_third)
    before = listing(home)
    refused(command("bench-pack", "--quiet"), 1, "the outputs of model.onnx differ by 1")
    assert len(calls) == 3 and listing(home) == before


def test_an_unfinished_run_is_refused(home: Path) -> None:
    edit(RUN / "run.json", "state", value="training")
    refused_all(home, [["bench-pack", RUN]], "has no finished weights yet")


def test_a_runtime_from_another_package_has_its_version_too() -> None:
    """As `onnxruntime-gpu` has the module of `onnxruntime`."""
    absent = device_script.Runtime("no-such-package", "numpy", device_script._open_onnxruntime)
    assert device_script._version(absent, np) == np.__version__
    assert device_script._version(absent, None) == "of unknown version"
