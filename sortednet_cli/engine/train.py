"""The training loop: a generator of updates. It neither logs nor saves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from sortednet_cli.data import Images
from sortednet_cli.engine.optimizer import RootOptimizer, learning_rate
from sortednet_cli.errors import WorkError
from sortednet_cli.nesting import NestedNetwork, Rule
from sortednet_cli.seeds import stream_seed
from sortednet_cli.space import SubModel
from sortednet_cli.spec import TrainSpec
from sortednet_cli.tasks import Batch, Classification


@dataclass(frozen=True)
class Update:
    """One finished update: its number from 1, mean loss, and the sub-models it trained."""

    number: int
    loss: Tensor
    lr: float
    submodels: tuple[SubModel, ...]


@dataclass
class Trainer:
    """What an update needs; holds no state that a checkpoint would have to keep."""

    network: NestedNetwork
    task: Classification
    rule: Rule
    images: Images
    optimizer: RootOptimizer
    spec: TrainSpec
    total: int

    def updates(self, start: int, stopped: Callable[[], bool]) -> Iterator[Update]:
        """Run the updates after the first `start`, until the last or until `stopped()`.

        An update that is cut short by `stopped` changes nothing.
        """
        batches = self.images.training_batches(
            start * self.spec.accumulate,
            batch_size=self.spec.batch_size,
            seed=self.spec.seed,
            device=self.network.device,
        )
        for index in range(start, self.total):
            self.network.zero_gradients()
            loss = torch.zeros((), device=self.network.device)
            drawn: list[SubModel] = []
            for micro in range(self.spec.accumulate):
                if stopped():
                    return
                random = Random(stream_seed(self.spec.seed, "rule", index, micro))
                torch.manual_seed(stream_seed(self.spec.seed, "dropout", index, micro))
                shares = self.rule.draw(random)
                loss += self._micro_batch(next(batches), shares)
                drawn += [submodel for submodel, _ in shares]
            lr = learning_rate(self.spec, index, self.total)
            self._step(drawn, lr)
            yield Update(index + 1, loss, lr, tuple(dict.fromkeys(drawn)))

    def _micro_batch(self, batch: Batch, shares: list[tuple[SubModel, float]]) -> Tensor:
        """Add the gradients of one micro-batch; return its share of the update's loss."""
        images, labels = batch
        largest = self.network.space.largest
        teacher: Tensor | None = None
        if self.spec.distill and shares[0][0] != largest:
            teacher = self._teach(largest, images)
        mean = torch.zeros((), device=images.device)
        for submodel, weight in shares:
            module = self.network.at(submodel)
            module.train()
            self.network.check_sharing(submodel)
            with self._autocast():
                logits = self.task.logits(module, images)
            # The teacher itself learns from the labels; everyone after it from the teacher.
            learns_from = None if submodel == largest else teacher
            loss = self.task.loss(logits.float(), labels, learns_from)
            share = loss * (weight / self.spec.accumulate)
            share.backward()  # type: ignore[no-untyped-call]
            mean += share.detach()
            if self.spec.distill and submodel == largest:
                teacher = logits.detach().float()
        return mean

    @torch.no_grad()
    def _teach(self, largest: SubModel, images: Tensor) -> Tensor:
        module = self.network.at(largest)
        module.train()
        with self._autocast():
            return self.task.logits(module, images).float()

    def _step(self, drawn: list[SubModel], lr: float) -> None:
        touched: set[str] = set()
        for submodel in drawn:
            touched |= self.network.plan(submodel).sources
        self.optimizer.step(touched, lr)

    def _autocast(self) -> torch.autocast:
        kind = self.network.device.type
        enabled = self.spec.precision == "bf16" or (
            self.spec.precision == "auto" and kind == "cuda"
        )
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=enabled)


def total_updates(spec: TrainSpec, batches_per_epoch: int) -> int:
    """The number of updates that `updates` or `epochs` of a spec mean, at least one."""
    if spec.updates is not None:
        return spec.updates
    assert spec.epochs is not None
    return max(1, round(spec.epochs * batches_per_epoch / spec.accumulate))


def check_finite(loss: float, update: int) -> None:
    """WorkError if training has diverged."""
    if not loss < float("inf"):
        raise WorkError(f"the loss is {loss} at update {update}: training diverged; lower train.lr")


def check_weights(network: NestedNetwork, update: int) -> None:
    """WorkError if weights are no numbers any more: no checkpoint is to hold them."""
    for name, weight in network.parameters.items():
        if not bool(torch.isfinite(weight).all()):
            raise WorkError(
                f"{name} is not finite after update {update}: training diverged; lower train.lr"
            )
