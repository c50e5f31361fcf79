"""Memory of a micro-batch, counted by running the trainer's own code on fake tensors.

Fake tensors have shapes, dtypes and storages, but no bytes. The count follows the storages that
are created and freed. The operations are those of a CPU, so the count is an upper bound for a GPU:
attention with dropout stores its weights, which a GPU's kernels recompute, and a causal mask is a
tensor, which a GPU's kernels do without.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from sortednet_cli.data import InputFormat
from sortednet_cli.engine.planning.teacher import PlannedTeacher
from sortednet_cli.engine.planning.unshared import Unshared
from sortednet_cli.engine.sources.root import task_of
from sortednet_cli.engine.training.micro_batch import MicroBatches
from sortednet_cli.families import Family
from sortednet_cli.machine.live_bytes import LiveBytes
from sortednet_cli.nesting import build_fake
from sortednet_cli.rules import Rule
from sortednet_cli.spec import TrainSpec
from sortednet_cli.tasks import LanguageModelling, Targets, Task


class _ScoringAll(LanguageModelling):
    """Language modelling that scores every token, because fake targets have no values."""

    def targets(self, given: Tensor, device: torch.device) -> Targets:
        return Targets(given.flatten())


def _scoring_all(task: Task) -> Task:
    if isinstance(task, LanguageModelling):
        return _ScoringAll(task.num_outputs, task.label_smoothing)
    return task


@dataclass(frozen=True)
class Footprint:
    """Memory of one micro-batch beyond weights, gradient and optimizer.

    Attributes:
        gradient: bytes of the root network's gradient.
        peak: most bytes that the micro-batch holds at a time.
        casts: bytes of bfloat16 copies of weights in the peak, which do not grow with the batch.
    """

    gradient: int
    peak: int
    casts: int


def footprint_of(
    family: Family,
    rule: Rule,
    spec: TrainSpec,
    inputs: InputFormat,
    planned: PlannedTeacher | None = None,
) -> Footprint:
    """Count the memory of the largest micro-batch that a rule can draw.

    Texts have their full length, and all of their tokens are scored.

    Args:
        planned: the fixed teacher, if there is one. Its weights do not count.
    """
    shares = rule.heaviest()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cpu"):
        network = Unshared(family, rule.space, build_fake(family, family.root.config))
        network.enable_training()
        task = _scoring_all(task_of(inputs, spec.label_smoothing))
        teacher = planned.fake() if planned else None
        micro_batches = MicroBatches(network, task, spec, teacher=teacher)
        targets = torch.zeros(inputs.output_shape(spec.batch_size)[:-1], dtype=torch.int64)
        batch = inputs.random_inputs(spec.batch_size), targets
        for group in network.groups([submodel for submodel, _ in shares]):
            network.shared_pass(group, training=True)
        known = [*network.parameters.values(), *network.gradient_buffers]
        if teacher is not None:
            teacher.network.at(teacher.network.space.largest)
            known += teacher.network.parameters.values()
        with LiveBytes(known) as live:
            micro_batches.add_gradients(batch, shares)
        gradient = sum(buffer.nbytes for buffer in network.gradient_buffers)
    return Footprint(gradient, live.peak, live.casts)
