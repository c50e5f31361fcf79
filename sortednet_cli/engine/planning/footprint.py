"""Memory of a micro-batch, counted by running the trainer's own code on fake tensors.

Fake tensors have shapes, dtypes and storages, but no bytes. The count follows the storages that
are created and freed. The operations are those of a CPU, so the count is an upper bound for a GPU:
attention with dropout stores its weights, which a GPU's kernels recompute, and a causal mask is a
tensor, which a GPU's kernels do without.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from sortednet_cli.data import InputFormat
from sortednet_cli.engine.planning.teacher import PlannedTeacher
from sortednet_cli.engine.planning.unshared import Unshared
from sortednet_cli.engine.sources.root import task_of
from sortednet_cli.engine.training.micro_batch import MicroBatches
from sortednet_cli.engine.training.teaching import product_of_axes
from sortednet_cli.families import Family
from sortednet_cli.machine.live_bytes import LiveBytes
from sortednet_cli.nesting import build_fake, ignore_layout_warning
from sortednet_cli.rules import Rule, Share, equal_shares
from sortednet_cli.space import SubModel
from sortednet_cli.space.submodel import without_depth
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
    draws = list(_heaviest(rule, spec))
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with warnings.catch_warnings(), fake, torch.device("cpu"):
        ignore_layout_warning()
        network = Unshared(family, rule.space, build_fake(family, family.root.config))
        network.enable_training()
        task = _scoring_all(task_of(inputs, spec.label_smoothing))
        teacher = planned.fake() if planned else None
        micro_batches = MicroBatches(network, task, spec, teacher=teacher)
        targets = torch.zeros(inputs.output_shape(spec.batch_size)[:-1], dtype=torch.int64)
        batch = inputs.random_inputs(spec.batch_size), targets
        built = [[rule.space.largest], *([submodel for submodel, _ in draw] for draw in draws)]
        for group in (group for draw in built for group in network.groups(draw)):
            network.shared_pass(group, training=True)
        known = [*network.parameters.values(), *network.gradient_buffers]
        if teacher is not None:
            teacher.network.at(teacher.network.space.largest)
            known += teacher.network.parameters.values()
        peaks = []
        for draw in draws:
            with LiveBytes(known) as live:
                micro_batches.add_gradients(batch, draw)
            peaks.append((live.peak, live.casts))
        gradient = sum(buffer.nbytes for buffer in network.gradient_buffers)
    return Footprint(gradient, *max(peaks))


def _heaviest(rule: Rule, spec: TrainSpec) -> Iterator[Sequence[Share]]:
    """Yield the draws of which one takes the most memory.

    Under distillation that need not be the one with the largest sub-models: if the largest is not
    drawn, or if several passes follow one another, logits of teachers wait beside a pass.
    """
    yield rule.heaviest()
    if not spec.distill:
        return
    kinds: dict[tuple[bool, bool], Sequence[SubModel]] = {}
    for draw in sorted(rule.draws(), key=lambda draw: sum(map(product_of_axes, draw))):
        several = len(set(map(without_depth, draw))) > 1
        kinds[rule.space.largest in draw, several] = draw
    yield from map(equal_shares, kinds.values())
