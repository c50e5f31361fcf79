"""What a fixed teacher takes of a training, told without its weights."""

from __future__ import annotations

from dataclasses import dataclass

from sortednet_cli.data import InputFormat
from sortednet_cli.engine.planning.unshared import Unshared
from sortednet_cli.engine.sources.opening import open_source
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.engine.training.teacher import FixedTeacher, check_inputs
from sortednet_cli.nesting import build_fake, build_skeleton, cost_of
from sortednet_cli.spec import TrainSpec
from sortednet_cli.storage.pretrained import find_teacher


@dataclass(frozen=True)
class PlannedTeacher:
    """The largest sub-model of another source.

    Attributes:
        macs: multiply-adds of one of the students' samples, which may be shorter than its own.
        weights: bytes of its float32 weights, which every device holds.
    """

    source: Source
    macs: int
    weights: int

    @classmethod
    def open(
        cls, train: TrainSpec, inputs: InputFormat, allowed: tuple[str, ...] = ()
    ) -> PlannedTeacher | None:
        """Open the teacher of a spec, if it has a fixed one.

        Args:
            inputs: the students' format.
            allowed: factories that may run, as `MODULE:NAME`.

        Raises:
            RequestError: it is no finished model, or takes other inputs.
        """
        if train.teacher is None:
            return None
        source = open_source(find_teacher(train.teacher), allowed)
        check_inputs(inputs, source.format, train.teacher)
        family, largest = source.family, source.space.largest
        sample = cost_of(family, largest, inputs.random_inputs, 1)
        skeleton = build_skeleton(family, family.shrink(largest))
        return cls(source, sample.macs, sum(p.nbytes for p in skeleton.parameters()))

    def fake(self) -> FixedTeacher:
        """Build it of fake tensors; call it under a FakeTensorMode."""
        family, space = self.source.family, self.source.space
        module = build_fake(family, family.shrink(space.largest)).eval()
        return FixedTeacher(Unshared(family, space, module, outer=space.largest))
