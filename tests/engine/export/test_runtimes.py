"""Image models in the runtimes of other packages, and what cannot be written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sortednet_cli.engine.export import further
from sortednet_cli.engine.export.formats import find_format, own_formats
from sortednet_cli.errors import RequestError
from tests.commands import command, listing, refused

LARGE = "its wheels are large, so it is no part of [dev]"
FILES = {"openvino": "model.xml", "executorch": "model.pte", "litert": "model.tflite"}
PACKAGES = {"executorch": "executorch", "litert": "litert_torch"}


def exported(*arguments: str) -> dict[str, Any]:
    done = command("extract", "--depth=1", "--out=cut", "--json", "--quiet", *arguments)
    assert done.code == 0, done
    found = json.loads(done.out)["verified"]["exported"]
    assert isinstance(found, dict)
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_a_runtime_gives_the_logits(name: str, home: Path) -> None:
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name], reason=LARGE)
    found = exported(f"--format={name}")
    assert (found["file"], found["runtime"], found["samples"]) == (FILES[name], name, 7)
    assert found["max_abs_diff"] < 1e-4
    file_format, check = find_format(name), load_file("cut/check.safetensors")
    assert file_format is not None
    assert found["size_bytes"] == sum(f.stat().st_size for f in file_format.files(Path("cut")))
    run = file_format.open(Path("cut") / FILES[name], threads=1)
    assert run is not None
    for count in (4, 2):
        logits = run(check["inputs"][:count].clone())
        torch.testing.assert_close(logits, check["logits"][:count], atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_core_ml_is_called_unverified(home: Path) -> None:
    coremltools = pytest.importorskip("coremltools", reason=LARGE)
    found = exported("--format=coreml")
    assert (found["max_abs_diff"], found["samples"]) == (None, 0)
    card = Path("cut/README.md").read_text()
    assert card.endswith("Its outputs are **unverified**: nothing here runs Core ML.\n")
    spec = coremltools.utils.load_spec("cut/model.mlpackage")
    assert [each.name for each in spec.description.input] == ["inputs"]
    assert [each.name for each in spec.description.output] == ["logits"]
    assert command("info", "cut", "--check", "--quiet").code == 0


@pytest.mark.parametrize("name", [each for each in own_formats() if each != "pt2"])
def test_a_missing_package_is_named_with_its_extra(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = listing(home)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("sortednet_cli.storage.sources.StoredSource.kind", kind_of(name))
    extra = name.removesuffix("-int8")
    done = command("extract", f"--format={name}", "--out=cut", "--quiet")
    refused(done, 2, f"--format {name} needs: pip install '.[{extra}]' in your checkout")
    assert listing(home) == before


def kind_of(name: str) -> str:
    """A kind of inputs that the format is for."""
    file_format = find_format(name)
    assert file_format is not None
    return next(kind for kind in ("image", "text") if file_format.refusal(kind) is None)


class Bessel(nn.Module):
    """A model with an operation that ONNX does not have."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.special.bessel_j0(inputs).flatten(1)


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_a_format_cannot_hold(tmp_path: Path) -> None:
    onnx, inputs = find_format("onnx"), torch.rand(4, 1, 2, 2)
    assert onnx is not None
    with pytest.raises(RequestError) as refusal:
        further.write_and_open(Bessel(), inputs, tmp_path / onnx.file, onnx)
    message = str(refusal.value)
    assert re.match(r"--format onnx cannot hold this model: it has no \S*bessel_j0;", message)
    assert "; safetensors, pt2" in message and message.endswith(" can")
    assert list(tmp_path.iterdir()) == []


class Choice(nn.Module):
    """A model whose pass depends on values, as that of a LLaMA with dynamic frequencies does."""

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs if inputs.sum() > 0 else -inputs).flatten(1)


@pytest.mark.filterwarnings("ignore")
def test_what_torch_traced_in_vain_is_not_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pt2 = find_format("pt2")
    assert pt2 is not None
    with pytest.raises(RequestError, match="--format pt2 cannot hold this model"):
        further.write_and_open(Choice(), torch.rand(4, 1, 2, 2), tmp_path / pt2.file, pt2)
    written = capsys.readouterr()
    assert "def forward" not in written.out + written.err
