"""A whole training as a stream of events: updates, checkpoints, then every sub-model's row."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from sortednet_cli.data import Images, open_images
from sortednet_cli.engine.evaluate import ensure_statistics, metrics_of
from sortednet_cli.engine.optimizer import RootOptimizer, place
from sortednet_cli.engine.source import open_root, read_family, read_format, root_fields
from sortednet_cli.engine.table import Row
from sortednet_cli.engine.train import (
    Trainer,
    Update,
    check_finite,
    check_weights,
    total_updates,
)
from sortednet_cli.errors import RequestError, SortednetError
from sortednet_cli.families import Family, root_of
from sortednet_cli.nesting import (
    NestedNetwork,
    check_space,
    cost_of,
    init_network,
    make_rule,
    quiet_first_backward,
)
from sortednet_cli.seeds import stream_seed
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import RunSpec, TrainSpec
from sortednet_cli.storage.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sortednet_cli.storage.files import write_json
from sortednet_cli.storage.run import RunFolder
from sortednet_cli.storage.tensors import write_tensors
from sortednet_cli.tasks import Classification


class Interrupted(SortednetError):
    """The user asked to stop; a checkpoint of the last whole update is on disk."""


@dataclass(frozen=True)
class Progress:
    """One update is done."""

    update: int
    total: int
    loss: float
    lr: float
    submodels: tuple[SubModel, ...]
    samples_per_second: float


@dataclass(frozen=True)
class Scored:
    """One sub-model has its statistics and scores."""

    row: Row
    done: int
    total: int


@dataclass(frozen=True)
class Finished:
    """The run is complete on disk."""

    run: RunFolder
    rows: list[Row]
    metric: str
    train_seconds: float
    score_seconds: float


Event = Progress | Scored | Finished


@dataclass
class Fit:
    """A run being trained: create or reopen it, then iterate `events()` under its lock."""

    run: RunFolder
    spec: RunSpec
    family: Family
    images: Images
    device: torch.device

    @classmethod
    def create(cls, path: Path, spec: RunSpec, device: torch.device) -> Fit:
        """Check the whole request against data and model, then write the run's folder.

        Raises:
            RequestError: anything wrong with the request; nothing is left behind.
        """
        images = open_images(spec.data)
        root = root_of(
            spec.model,
            channels=images.format.channels,
            num_classes=images.format.num_classes,
        )
        allowed = [spec.model.factory] if spec.model.factory else []
        family = open_root(root, allowed, images.format, where="model.config")
        space = SearchSpace.of(spec.space)
        check_space(family, space)
        _check_submodel(spec.train, space)
        make_rule(spec.train, space)
        images.batches_per_epoch(spec.train.batch_size)
        manifest = {
            "created": time.time(),
            "name": spec.name,
            "versions": versions(),
            **root_fields(family, images.format),
        }
        run = RunFolder.create(path, _absolute_data(spec), manifest)
        return cls(run, spec, family, images, device)

    @classmethod
    def reopen(cls, run: RunFolder, device: torch.device, allowed: tuple[str, ...]) -> Fit:
        """Open an unfinished run to go on with it."""
        spec, manifest = run.spec(), run.manifest()
        family = read_family(manifest, run.path, allowed)
        images = open_images(spec.data, known=read_format(manifest.data))
        return cls(run, spec, family, images, device)

    def events(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[Event]:
        """Train, checkpointing now and then; then recalibrate, score and store everything.

        Raises:
            Interrupted: `stopped()` became true; a checkpoint has been written.
            WorkError: training diverged, or the run's folder cannot be written.
        """
        quiet_first_backward()
        trainer, start, seconds = self._prepare()
        clock = time.monotonic() - seconds
        yield from self._train(trainer, start, clock, stopped)
        seconds = time.monotonic() - clock
        began = time.monotonic()
        rows = yield from self._score(trainer, stopped)
        self._store(trainer.network, rows)
        self.run.finish(seconds)
        scoring = time.monotonic() - began
        yield Finished(self.run, rows, trainer.task.metric, seconds, scoring)

    def _prepare(self) -> tuple[Trainer, int, float]:
        train = self.spec.train
        space = SearchSpace.of(self.spec.space)
        module = init_network(self.family, stream_seed(train.seed, "init"))
        saved = load_checkpoint(self.run)
        network = NestedNetwork(self.family, space, place(module, self.device, train.channels_last))
        network.enable_training()
        optimizer = RootOptimizer(network, train)
        if saved is not None:
            self._restore(network, saved)
            optimizer.load_state(saved.optimizer)
        self.run.cut_log(saved.update if saved else 0)
        total = total_updates(train, self.images.batches_per_epoch(train.batch_size))
        task = Classification(self.images.format.num_classes, train.label_smoothing)
        rule = make_rule(train, space)
        trainer = Trainer(network, task, rule, self.images, optimizer, train, total)
        return trainer, (saved.update if saved else 0), (saved.seconds if saved else 0.0)

    def _restore(self, network: NestedNetwork, saved: Checkpoint) -> None:
        own = network.weights
        if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in saved.weights.items()}:
            raise RequestError(
                f"{self.run.checkpoints}: weights.safetensors of step {saved.update}"
                " does not belong here: its tensors are not the model's"
            )
        network.module.load_state_dict(saved.weights, strict=False)

    def _train(
        self, trainer: Trainer, start: int, clock: float, stopped: Callable[[], bool]
    ) -> Iterator[Progress]:
        done, last_save = start, time.monotonic()
        began, samples_each = last_save, self.spec.train.batch_size * self.spec.train.accumulate
        with _scalars(self.run, self.spec.train.tensorboard) as record:
            for update in trainer.updates(start, stopped):
                done = update.number
                if done % self.spec.train.log_every == 0 or done == trainer.total:
                    rate = (done - start) * samples_each / (time.monotonic() - began)
                    yield self._log(update, trainer.total, rate, record)
                if time.monotonic() - last_save > 60 * self.spec.train.checkpoint_minutes:
                    check_weights(trainer.network, done)
                    self._save(trainer, done, clock)
                    last_save = time.monotonic()
        if done > start:
            check_weights(trainer.network, done)
            self._save(trainer, done, clock)
        if done < trainer.total:
            raise self._interrupted(f"after update {done}")

    def _log(
        self, update: Update, total: int, rate: float, record: Callable[[str, float, int], None]
    ) -> Progress:
        loss = float(update.loss)
        check_finite(loss, update.number)
        entry = {"update": update.number, "loss": loss, "lr": update.lr}
        self.run.log({**entry, "submodels": [s.name for s in update.submodels]})
        record("train/loss", loss, update.number)
        record("train/lr", update.lr, update.number)
        return Progress(update.number, total, loss, update.lr, update.submodels, rate)

    def _save(self, trainer: Trainer, done: int, clock: float) -> None:
        save_checkpoint(
            self.run,
            Checkpoint(
                update=done,
                seconds=time.monotonic() - clock,
                weights=trainer.network.weights,
                optimizer=trainer.optimizer.state(),
            ),
        )

    def _score(
        self, trainer: Trainer, stopped: Callable[[], bool]
    ) -> Generator[Scored, None, list[Row]]:
        """Measure statistics, costs and scores of every sub-model, one event for each."""
        network, rows = trainer.network, list[Row]()
        submodels = network.space.submodels
        for done, submodel in enumerate(submodels, start=1):
            if stopped():
                raise self._interrupted("while scoring the sub-models")
            ensure_statistics(network, submodel, self.images, self.spec.train.recalibrate_samples)
            metrics = metrics_of(
                network, submodel, self.images, ("validation", "test"), trainer.task
            )
            shape = (self.images.format.channels, *[self.images.format.image_size] * 2)
            cost = cost_of(self.family, submodel, shape)
            rows.append(Row(submodel, cost.params, cost.macs, metrics))
            yield Scored(rows[-1], done, len(submodels))
        return rows

    def _interrupted(self, when: str) -> Interrupted:
        return Interrupted(f"stopped {when}; go on with: sortednet train --resume {self.run.path}")

    def _store(self, network: NestedNetwork, rows: list[Row]) -> None:
        statistics = {
            f"{submodel}/{name}": tensor
            for submodel, own in network.statistics.items()
            for name, tensor in own.items()
        }
        write_tensors(self.run.weights, network.weights)
        write_tensors(self.run.statistics, statistics)
        table = {"metric": Classification.metric, "submodels": [row.stored() for row in rows]}
        write_json(self.run.table, table)


def versions() -> dict[str, str]:
    """Versions that a figure of this run must be quoted with."""
    packages = ("sortednet-cli", "torch", "torchvision", "safetensors")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def choose_device(name: str) -> torch.device:
    """Resolve `auto`, `cpu`, `cuda`, `cuda:1`; RequestError if there is no such device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        float(torch.ones(1, device=device))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise RequestError(
            f"--device {name}: no such device here ({reason}); take auto, cpu, cuda or cuda:N"
        ) from error
    return device


def _check_submodel(train: TrainSpec, space: SearchSpace) -> None:
    if train.submodel is not None:
        try:
            space.named(train.submodel)
        except RequestError as error:
            raise RequestError(f"train.submodel: {error}") from error


def _absolute_data(spec: RunSpec) -> RunSpec:
    """Store the data's absolute path, so that a run can go on from any working folder."""
    if spec.data.path is None:
        return spec
    data = spec.data.model_copy(update={"path": str(Path(spec.data.path).absolute())})
    return spec.model_copy(update={"data": data})


@contextmanager
def _scalars(run: RunFolder, wanted: bool) -> Iterator[Callable[[str, float, int], None]]:
    """Give a function that records TensorBoard scalars, or does nothing."""
    if not wanted:
        yield lambda name, value, update: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise RequestError(
            "train.tensorboard needs: pip install 'sortednet-cli[tensorboard]'"
        ) from error
    with SummaryWriter(run.path / "tensorboard") as writer:
        yield writer.add_scalar
