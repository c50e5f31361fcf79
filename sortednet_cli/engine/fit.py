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
from torch import nn

from sortednet_cli.data import Dataset, Texts, open_data
from sortednet_cli.engine.evaluate import ensure_statistics, score
from sortednet_cli.engine.optimizer import RootOptimizer, place
from sortednet_cli.engine.source import (
    open_root,
    read_family,
    read_format,
    root_fields,
    task_of,
)
from sortednet_cli.engine.table import Row
from sortednet_cli.engine.train import (
    Trainer,
    Update,
    check_finite,
    check_weights,
    total_updates,
)
from sortednet_cli.errors import RequestError, SortednetError
from sortednet_cli.families import (
    Family,
    TransformerFamily,
    load_checkpoint_tensors,
    reorder_by_importance,
    root_of,
)
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
from sortednet_cli.storage.pretrained import open_pretrained
from sortednet_cli.storage.run import RunFolder
from sortednet_cli.storage.tensors import write_tensors


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
    data: Dataset
    device: torch.device

    @classmethod
    def create(cls, path: Path, spec: RunSpec, device: torch.device) -> Fit:
        """Check the whole request against data and model, then write the run's folder.

        Raises:
            RequestError: anything wrong with the request; nothing is left behind.
        """
        model = spec.model
        pretrained = open_pretrained(model.pretrained) if model.pretrained else None
        folder = pretrained.folder if pretrained else None
        data = open_data(spec.data, spec.task, tokenizer=folder)
        stock = pretrained.config if pretrained else {}
        root = root_of(model, spec.task, data.format.facts(), stock)
        allowed = [spec.model.factory] if spec.model.factory else []
        family = open_root(root, allowed, data.format, where="model.config")
        space = SearchSpace.of(spec.space)
        check_space(family, space)
        _check_submodel(spec.train, space)
        make_rule(spec.train, space)
        data.batches_per_epoch(spec.train.batch_size)
        manifest = {
            "created": time.time(),
            "name": spec.name,
            "versions": versions(),
            **root_fields(family, data.format),
        }
        save = data.tokenizer.save_pretrained if isinstance(data, Texts) else None
        run = RunFolder.create(path, _absolute(spec), manifest, save)
        return cls(run, spec, family, data, device)

    @classmethod
    def reopen(cls, run: RunFolder, device: torch.device, allowed: tuple[str, ...]) -> Fit:
        """Open an unfinished run to go on with it."""
        spec, manifest = run.spec(), run.manifest()
        family = read_family(manifest, run.path, allowed)
        known = read_format(manifest.data)
        data = open_data(spec.data, spec.task, known=known, tokenizer=run.tokenizer)
        return cls(run, spec, family, data, device)

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
        self._store(trainer, rows)
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
        elif self.spec.model.pretrained is not None:
            self._start_from(self.spec.model.pretrained, network.module)
        self.run.cut_log(saved.update if saved else 0)
        total = total_updates(train, self.data.batches_per_epoch(train.batch_size))
        task = task_of(self.data.format, train.label_smoothing)
        rule = make_rule(train, space)
        trainer = Trainer(network, task, rule, self.data, optimizer, train, total)
        return trainer, (saved.update if saved else 0), (saved.seconds if saved else 0.0)

    def _start_from(self, name: str, module: nn.Module) -> None:
        """Copy pretrained weights into the root network, in the spec's order of importance."""
        assert isinstance(self.family, TransformerFamily)
        load_checkpoint_tensors(self.family, module, open_pretrained(name).tensors(), name)
        if self.spec.model.reorder is not None:
            layers = self.family.architecture.layers
            reorder_by_importance(module, self.family.root.config, layers)

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
        inputs, samples = self.data.format, self.spec.train.recalibrate_samples
        for group in network.groups(network.space.submodels):
            if stopped():
                raise self._interrupted("while scoring the sub-models")
            ensure_statistics(network, group, self.data, trainer.task, samples)
            found = score(network, group, self.data, ("validation", "test"), trainer.task)
            for submodel in reversed(group):
                cost = cost_of(self.family, submodel, inputs.random_inputs, inputs.num_units)
                rows.append(Row(submodel, cost.params, cost.macs, found[submodel]))
                yield Scored(rows[-1], len(rows), len(network.space))
        return rows

    def _interrupted(self, when: str) -> Interrupted:
        return Interrupted(f"stopped {when}; go on with: sortednet train --resume {self.run.path}")

    def _store(self, trainer: Trainer, rows: list[Row]) -> None:
        network = trainer.network
        statistics = {
            f"{submodel}/{name}": tensor
            for submodel, own in network.statistics.items()
            for name, tensor in own.items()
        }
        write_tensors(self.run.weights, network.weights)
        write_tensors(self.run.statistics, statistics)
        table = {"metric": trainer.task.metric, "submodels": [row.stored() for row in rows]}
        write_json(self.run.table, table)


def versions() -> dict[str, str]:
    """Versions that a figure of this run must be quoted with."""
    packages = ("sortednet-cli", "torch", "torchvision", "transformers", "safetensors")
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


def _absolute(spec: RunSpec) -> RunSpec:
    """Store absolute paths, so that a run can go on from any working folder."""
    data, model = spec.data, spec.model
    if data.path is not None and data.source != "hub":
        data = data.model_copy(update={"path": str(Path(data.path).absolute())})
    if model.pretrained is not None and Path(model.pretrained).is_dir():
        place = str(Path(model.pretrained).absolute())
        model = model.model_copy(update={"pretrained": place})
    return spec.model_copy(update={"data": data, "model": model})


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
