"""Recorded passes of a training: where they are, and that they change nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sortednet_cli.engine.training.start import create_session
from sortednet_cli.spec import TrainSpec, load_preset
from tests.commands import TINY, command, refused

CPU = torch.device("cpu")


def test_a_cpu_has_no_graphs(tmp_path: Path) -> None:
    assert TrainSpec.model_validate({"updates": 1}).cuda_graphs == "auto"
    message = "train.cuda_graphs = true: --device cpu has no CUDA graphs"
    words = ("train", *TINY, "--set=train.cuda_graphs=true", "--device=cpu", "--out")
    refused(command(*words, tmp_path / "run"), 2, message)
    assert not list(tmp_path.iterdir())


def test_on_a_cpu_auto_changes_nothing(tmp_path: Path) -> None:
    weights = []
    for choice in ("auto", "false"):
        sets = [word.removeprefix("--set=") for word in TINY[1:]]
        spec = load_preset(
            "digits-resnet", [*sets, f'train.cuda_graphs="{choice}"'.replace('"false"', "false")]
        )
        list(create_session(tmp_path / choice, spec, CPU).events())
        weights.append(load_file(tmp_path / choice / "weights.safetensors"))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


@pytest.mark.parametrize("other", ["shard", "compile"])
def test_passes_that_are_not_recorded_are_refused_by_the_spec(other: str) -> None:
    with pytest.raises(ValueError, match=f"train.cuda_graphs: .* under train.{other}"):
        TrainSpec.model_validate({"updates": 1, other: True, "cuda_graphs": True})
    assert TrainSpec.model_validate({"updates": 1, other: True}).cuda_graphs == "auto"
    with pytest.raises(ValueError, match="cuda_graphs"):
        TrainSpec.model_validate({"updates": 1, "cuda_graphs": "maybe"})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("model", ["digits", "dropout"])
def test_graphs_change_no_weight_on_a_gpu(model: str, tmp_path: Path) -> None:
    """20 updates with and without, by the same kernels: to rounding, and dropout draws the same."""
    device, weights = torch.device("cuda:0"), []
    sets = ["train.updates=20", "train.lr=0.01", "train.precision=fp32", "train.deterministic=true"]
    sets += ["space.width=[0.5,1.0]", "space.depth=[3,8]"]
    if model == "dropout":
        sets += ["model.family=mobilenet_v2", "model.config={dropout=0.2}", "space.depth=[5,17]"]
    for choice in ("true", "false"):
        spec = load_preset("digits-resnet", [*sets, f"train.cuda_graphs={choice}"])
        list(create_session(tmp_path / choice, spec, device).events())
        weights.append(load_file(tmp_path / choice / "weights.safetensors"))
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=1e-5, atol=1e-6)
