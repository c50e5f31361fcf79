"""How sub-models are scored: how many samples at once, and in which memory format."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sortednet_cli.data import nominal_format
from sortednet_cli.engine.evaluation.batch_sizes import BatchSizes, activation_bytes
from sortednet_cli.engine.evaluation.score import score_parts
from sortednet_cli.families import Inputs, open_family, root_of
from sortednet_cli.spec import load_preset
from sortednet_cli.tasks import make_task
from tests.commands import TINY, command
from tests.pico import NUM_CLASSES, PICOS, VOCAB


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


class _Part:
    """The same batch again and again, with random targets."""

    num_bytes = 0

    def __init__(self, inputs: Inputs, targets: Tensor) -> None:
        self.batch = inputs, targets

    def __len__(self) -> int:
        return 4 * 6

    def batches(self, *_: object) -> Iterator[tuple[Inputs, Tensor]]:
        return (self.batch for _ in range(6))


@pytest.mark.parametrize("name", ["preact_prefix_instance", "bert_classifier", "llama"])
def test_no_tensor_outlives_its_batch_on_a_cpu(name: str) -> None:
    """Small tensors between activations keep the heap from joining what is free around them.

    With texts of many lengths, the memory of a process then grows with every batch.
    """
    pico = PICOS[name]
    network = pico.network(training=False)
    inputs: Any = pico.inputs()
    shape = tuple(inputs["input_ids"].shape) if pico.task != "classification" else (4,)
    outputs = VOCAB if pico.task != "classification" else NUM_CLASSES
    part: Any = _Part(inputs, torch.randint(outputs, shape))
    alive: list[int] = []

    def count() -> None:
        alive.append(sum(issubclass(type(each), Tensor) for each in gc.get_objects()))

    task = make_task(pico.task, "text" if pico.is_text else "image", outputs)
    (group, *_) = network.groups(network.space.submodels)
    score_parts(network, group, {"test": part}, task, 4, count)
    assert len(alive) == 6
    assert alive[2:] == alive[1:-1], alive
