"""Pretrained weights of image networks: from every place, with statistics, under another head."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from sortednet_cli import load_run
from tests.commands import command, refused

PREACT = """
name = "small"
[model]
family = "preact_resnet"
config = { channels = [8, 16], blocks = [1, 1], strides = [1, 2] }
[space]
width = [0.5, 1.0]
[data]
source = "digits"
[train]
updates = 1
lr = 1e-30
recalibrate_samples = 64
"""

RESNET = """
name = "small"
[model]
family = "resnet50"
config = { layers = [1, 1, 1, 1], width_per_group = 8 }
[space]
width = [0.5, 1.0]
[data]
source = "image-folder"
path = "images"
validation = 0.25
[train]
updates = 1
lr = 1e-30
batch_size = 4
"""

WEIGHTS = "model.pretrained=torchvision:ResNet50_Weights.IMAGENET1K_V2"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run and an artifact of its largest sub-model."""
    folder = tmp_path_factory.mktemp("started")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("spec.toml").write_text(PREACT.replace("lr = 1e-30", "lr = 0.1"))
        assert command("train", "--config=spec.toml", "--out=run", "--quiet").code == 0
        assert command("extract", "run", "--width=1", "--out=artifact").code == 0
    return folder


def _trained(spec: str, *settings: str) -> dict[str, Tensor]:
    """Take a step that changes nothing, and return the weights that were begun with."""
    Path("spec.toml").write_text(spec)
    options = [f"--set={setting}" for setting in settings]
    done = command("train", "--config=spec.toml", "--out=out", *options)
    assert done.code == 0, done.err
    Path("log").write_text(done.err)
    return load_file("out/weights.safetensors")


@pytest.mark.parametrize("place", ["run", "artifact", "artifact/model.safetensors"])
def test_every_place_gives_the_same_weights(
    place: str, started: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = _trained(PREACT, f"model.pretrained={started / place}")
    expected = load_file(started / "run" / "weights.safetensors")
    assert found.keys() == expected.keys()
    assert all(
        torch.allclose(found[name], tensor, rtol=0, atol=1e-20) for name, tensor in expected.items()
    )
    assert "fresh" not in Path("log").read_text()


def test_statistics_come_along(started: Path) -> None:
    run = load_run(started / "run").network()
    from sortednet_cli.storage.first_weights import read_weights

    tensors = read_weights(str(started / "run"))
    module = run.family.build(run.family.root.config)
    run.family.load_pretrained(module, tensors, "run")
    for name, buffer in run.statistics["w1"].items():
        assert torch.equal(module.state_dict()[name], buffer), name


def test_a_head_of_another_size_is_fresh_and_said_once(
    started: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tensors = load_file(started / "artifact" / "model.safetensors")
    tensors["head.weight"], tensors["head.bias"] = torch.zeros(1000, 16), torch.zeros(1000)
    save_file(tensors, "other.safetensors")
    found = _trained(PREACT, "model.pretrained=other.safetensors")
    line = "other.safetensors: fresh weights for head, which has 10 outputs instead of 1000"
    assert Path("log").read_text().count(line) == 1
    assert found["head.weight"].shape == (10, 16)
    assert torch.equal(found["stem.weight"], tensors["stem.weight"])
    del tensors["head.weight"], tensors["head.bias"]
    save_file(tensors, "none.safetensors")
    shutil.rmtree("out")
    _trained(PREACT, "model.pretrained=none.safetensors")
    assert "none.safetensors: fresh weights for head, which it lacks" in Path("log").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stem.weight": torch.zeros(9, 1, 3, 3)}, "misshapen stem.weight [9, 1, 3, 3] for [8, 1"),
        ({"stem.weight": None}, "missing stem.weight"),
        ({"stem.weight": None, "head.weight": None}, "missing stem.weight"),
        ({"further.weight": torch.zeros(1)}, "unknown further.weight"),
    ],
)
def test_weights_of_another_architecture_are_refused(
    change: dict[str, Tensor | None],
    message: str,
    started: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    tensors = {**load_file(started / "artifact" / "model.safetensors"), **change}
    save_file({n: t for n, t in tensors.items() if t is not None}, "other.safetensors")
    Path("spec.toml").write_text(PREACT)
    done = command("train", "--config=spec.toml", "--set=model.pretrained=other.safetensors")
    refused(done, 2, message)
    assert "fresh weights" not in done.err
    assert not list(Path().glob("runs/*"))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("none.safetensors", "there is no file or folder none.safetensors"),
        ("spec.toml", "is not a safetensors file"),
        ("torchvision:ResNet50_Weight.V1", "did you mean ResNet50_Weights?"),
        ("torchvision:ResNet50_Weights.V9", "ResNet50_Weights has IMAGENET1K_V1, IMAGENET1K_V2"),
    ],
)
def test_places_without_weights_are_refused(
    place: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text(PREACT)
    done = command("train", "--config=spec.toml", f"--set=model.pretrained={place}")
    refused(done, 2, message)
    assert not list(Path().glob("runs/*"))


def _images() -> None:
    generator = torch.Generator().manual_seed(0)
    for number in range(24):
        place = Path("images") / ("train" if number % 3 else "test") / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(0, 256, (32, 32, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(place / f"{number}.png")


def test_torchvisions_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the file that torchvision keeps; a network is needed only for the first time."""
    from torchvision.models.resnet import Bottleneck, ResNet

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    _images()
    kept = tmp_path / "home" / "hub" / "checkpoints" / "resnet50-11ad3fa6.pth"
    kept.parent.mkdir(parents=True)
    network = ResNet(Bottleneck, [1, 1, 1, 1], width_per_group=8)
    torch.save(network.state_dict(), kept)
    found = _trained(RESNET, WEIGHTS)
    assert torch.equal(found["layer4.0.conv3.weight"], network.layer4[0].conv3.weight.detach())
    assert "fresh weights for fc, which has 2 outputs instead of 1000" in Path("log").read_text()


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("touched"),))


def test_torchvisions_weights_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    _images()
    Path("spec.toml").write_text(RESNET)
    kept = tmp_path / "home" / "hub" / "checkpoints" / "resnet50-11ad3fa6.pth"
    kept.parent.mkdir(parents=True)
    torch.save({"fc.weight": _Evil()}, kept)
    refused(command("train", "--config=spec.toml", f"--set={WEIGHTS}"), 1, "could not be read from")
    assert not Path("touched").exists()
    assert not list(Path().glob("runs/*"))


@pytest.mark.parametrize("order", ["importance", "activation"])
def test_channels_are_reordered_on_request(
    order: str, started: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pretrained = f"model.pretrained={started / 'run'}"
    found = _trained(PREACT, pretrained, f"model.reorder={order}")
    expected = load_file(started / "run" / "weights.safetensors")
    assert not torch.equal(found["stem.weight"], expected["stem.weight"])
    for name in ("stem.weight", "head.weight"):
        ordered = [tensor.flatten().sort().values for tensor in (found[name], expected[name])]
        torch.testing.assert_close(*ordered)
