"""How sub-models are scored: how many samples at once, and in which memory format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sortednet_cli.data import nominal_format
from sortednet_cli.engine.evaluation.batch_sizes import BatchSizes, activation_bytes
from sortednet_cli.families import open_family, root_of
from sortednet_cli.spec import load_preset
from tests.commands import TINY, command


@pytest.mark.parametrize(
    ("preset", "num_bytes"),
    [
        ("cifar10-resnet", 4 * 16 * 32 * 32),  # its first stage
        ("cifar10-mobilenetv2", 4 * 192 * 16 * 16),  # an expanded layer
        ("imagenet-resnet50", 4 * 64 * 112 * 112),  # its stem
        ("shakespeare-llama", 4 * 128 * 512),  # a sequence in an FFN, and no logits
    ],
)
def test_the_largest_activation(preset: str, num_bytes: int) -> None:
    spec = load_preset(preset)
    inputs = nominal_format(spec)
    family = open_family(root_of(spec.model, spec.task, inputs.facts()))
    assert activation_bytes(family, inputs) == num_bytes


@pytest.mark.parametrize(
    ("each", "device", "sizes"),
    [
        (1, "cpu", BatchSizes(512, 512)),
        (64 << 10, "cpu", BatchSizes(512, 512)),
        (192 << 10, "cpu", BatchSizes(168, 168)),
        (3 << 20, "cpu", BatchSizes(8, 64)),
        (64 << 20, "cpu", BatchSizes(8, 64)),
        (192 << 10, "cuda", BatchSizes(512, 168)),
        (3 << 20, "cuda", BatchSizes(80, 64)),
    ],
)
def test_a_batch_holds_what_the_bound_allows(each: int, device: str, sizes: BatchSizes) -> None:
    """Statistics are measured on the same batches everywhere."""
    assert BatchSizes.within(each, torch.device(device)) == sizes


def test_eval_gives_the_scores_that_training_stored(work: Path) -> None:
    """To the last bit: in the memory format that was trained in."""
    assert command("train", *TINY, "--set=train.channels_last=true", "--quiet").code == 0
    rows = json.loads(Path("runs/digits-resnet/frontier.json").read_text())["submodels"]
    done = command("eval", "--all", "--json", "--quiet")
    found = {str(row["axes"]): row["metrics"] for row in json.loads(done.out)["submodels"]}
    assert found == {str(row["axes"]): row["metrics"]["test"] for row in rows}
