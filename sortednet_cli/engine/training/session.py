"""A whole training as a stream of events: updates, checkpoints, then every sub-model's row."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path

import torch

from sortednet_cli.allocator import release
from sortednet_cli.data import Dataset, TextFormat, Texts, open_data
from sortednet_cli.distributed.processes import ALONE, PATIENCE, PeerLost, Processes, lost_peers
from sortednet_cli.engine.evaluation.batch_sizes import BatchSizes
from sortednet_cli.engine.evaluation.gather import flat_statistics, gather_rows, gather_statistics
from sortednet_cli.engine.evaluation.score import ensure_statistics, score
from sortednet_cli.engine.sources.root import (
    open_root,
    read_family,
    read_format,
    root_fields,
    task_of,
)
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.engine.training.begin import begin_sharded, begin_whole
from sortednet_cli.engine.training.deterministic import deterministic
from sortednet_cli.engine.training.loop import SMALLER, Position, Trainer, Update
from sortednet_cli.engine.training.nonfinite import check_weights
from sortednet_cli.engine.training.requirements import (
    absolute,
    check_amount,
    check_batch,
    with_precision,
)
from sortednet_cli.engine.training.scalars import scalars
from sortednet_cli.errors import RequestError, SortednetError
from sortednet_cli.families import Config, Family, Root, root_of
from sortednet_cli.families.stock_configs import GENERATION, generation_config, with_end
from sortednet_cli.machine.device import settles, true_fp32
from sortednet_cli.machine.memory import enough_memory
from sortednet_cli.machine.precision import warn_of_emulation
from sortednet_cli.machine.versions import versions
from sortednet_cli.nesting import (
    check_space,
    cost_of,
    make_rule,
    quiet_first_backward,
)
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import RunSpec
from sortednet_cli.spec.vocabulary import CAUSAL_TASKS
from sortednet_cli.storage.checkpoint import (
    Checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from sortednet_cli.storage.checks import FileCheck
from sortednet_cli.storage.files import Taken, free_name, write_json
from sortednet_cli.storage.pretrained import open_pretrained
from sortednet_cli.storage.run import RunFolder
from sortednet_cli.storage.tensors import write_tensors


class Interrupted(SortednetError):
    """The user asked to stop; a checkpoint of the last whole update is on disk."""


class _Cut(Exception):
    """Scoring is to end in the middle."""


def _generation(form: TextFormat, root: Root, pretrained: Path | None) -> Config | None:
    """What a causal model will generate by: as its pretrained one, and ending as its texts do."""
    if form.task not in CAUSAL_TASKS:
        return None
    known = generation_config(pretrained, root.config)
    return with_end(known, form.eos_id)


def _save_language(texts: Texts, generation: Config | None, folder: Path) -> None:
    texts.tokenizer.save_pretrained(folder)
    if generation is not None:
        write_json(folder / GENERATION, generation)


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
    """A run being trained: create or reopen it, then iterate `events()` under its lock.

    Of several processes the first alone creates the run, and writes into it; all others
    reopen it.
    """

    run: RunFolder
    spec: RunSpec
    family: Family
    data: Dataset
    device: torch.device
    processes: Processes = ALONE

    @classmethod
    def create(
        cls,
        path: Path,
        spec: RunSpec,
        device: torch.device,
        processes: Processes = ALONE,
        *,
        or_next: bool = False,
    ) -> Fit:
        """Check the whole request against data and model, then write the run's folder.

        Args:
            or_next: take the next free name, `path-2` and so on, if `path` exists.

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
        make_rule(spec.train, space)
        check_amount(data, spec.train, processes)
        check_batch(family, data.format, spec.train)
        spec = absolute(with_precision(spec, device))
        manifest = {
            "created": time.time(),
            "name": spec.name,
            "versions": versions(),
            **root_fields(family, data.format),
        }
        save = None
        if isinstance(data, Texts):
            save = partial(_save_language, data, _generation(data.format, root, folder))
        while True:
            place = free_name(path) if or_next else path
            try:
                run = RunFolder.create(place, spec, manifest, save)
            except Taken:
                if not or_next:
                    raise
                continue  # Another training took the name first.
            return cls(run, spec, family, data, device, processes)

    @classmethod
    def reopen(
        cls,
        run: RunFolder,
        device: torch.device,
        allowed: tuple[str, ...],
        processes: Processes = ALONE,
    ) -> Fit:
        """Open an unfinished run to go on with it.

        Raises:
            RequestError: it is damaged, or its data cannot be opened any more.
        """
        spec, manifest = run.spec(), run.manifest()
        family = read_family(manifest, run.path, allowed)
        known = read_format(manifest.data)
        data = open_data(spec.data, spec.task, known=known, tokenizer=run.tokenizer)
        check_amount(data, spec.train, processes)
        return cls(run, spec, family, data, device, processes)

    def events(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[Event]:
        """Train, checkpointing now and then; then recalibrate, score and store everything.

        Raises:
            Interrupted: `stopped()` became true, or the job's launcher has died; a checkpoint
                has been written.
            WorkError: training diverged, or the run's folder cannot be written.
        """
        with deterministic(self.spec.train.deterministic), true_fp32():
            yield from self._events(lambda: self._stops(stopped()))

    def _events(self, stopped: Callable[[], bool]) -> Iterator[Event]:
        quiet_first_backward()
        if self.processes.leads:
            warn_of_emulation(self.spec.train.precision, self.device)
            # It was unfinished when it was opened; another process may have held it since.
            self.run.require_unfinished()
        with enough_memory("the root network and its gradient", SMALLER):
            trainer, start, seconds = self._prepare()
        clock = time.monotonic() - seconds
        yield from self._train(trainer, start, clock, stopped)
        seconds = time.monotonic() - clock
        began = time.monotonic()
        release()  # what updates used: scoring needs memory of other sizes
        rows = yield from self._score(trainer, stopped)
        release()
        written = self._store(trainer, rows)
        if self.processes.leads:
            self.run.finish(seconds, written)
        scoring = time.monotonic() - began
        yield Finished(self.run, rows, trainer.task.metric, seconds, scoring)

    def _prepare(self) -> tuple[Trainer, Position, float]:
        train = self.spec.train
        space = SearchSpace.of(self.spec.space)
        begin = begin_sharded if self._sharded else begin_whole
        network, optimizer, saved = begin(
            self.run, self.spec, self.family, self.device, self.processes
        )
        if self.processes.leads:
            self.run.clear()
            self.run.cut_log(saved.update if saved else 0)
        task = task_of(self.data.format, train.label_smoothing)
        rule = make_rule(train, space)
        make = self._trainer
        trainer = make(network, task, rule, self.data, optimizer, train, self.processes)
        if saved is None:
            return trainer, Position(), 0.0
        return trainer, Position(saved.update, saved.batches), saved.seconds

    def _stops(self, asked: bool) -> bool:
        """Whether the training is to end, asked by this process or because nobody waits for it."""
        stop = asked or self.processes.abandoned
        if self._sharded:
            # All are in the same pass: one that left it would leave the others waiting there.
            (stop,) = self.processes.any(stop)
        return stop

    @property
    def _sharded(self) -> bool:
        """One process holds all there is: nothing of it is sharded then."""
        return self.spec.train.shard and self.processes.count > 1

    @property
    def _trainer(self) -> type[Trainer]:
        if not self._sharded:
            return Trainer
        from sortednet_cli.engine.training.sharding import ShardedTrainer

        return ShardedTrainer

    def _train(
        self, trainer: Trainer, start: Position, clock: float, stopped: Callable[[], bool]
    ) -> Iterator[Progress]:
        done = saved = start
        began = time.monotonic()
        total, last_save = trainer.total(start), began
        if start.update > total:
            raise RequestError(
                f"{self.run.path}: the checkpoint is of update {start.update}, and train.updates ="
                f" {total} in spec.toml ends before it"
            )
        samples_each = self.spec.train.batch_size * trainer.batches_each

        def due() -> bool:
            waited = time.monotonic() - last_save
            return self.processes.leads and waited > 60 * self.spec.train.checkpoint_minutes

        events = self.run.path / "tensorboard"
        with scalars(events, self._records_scalars, start.update + 1) as record:
            try:
                for update in trainer.updates(start, stopped, due):
                    done = update.position
                    logs = update.number % self.spec.train.log_every == 0
                    if logs or update.save or update.number == total:
                        self._wait_for_device(stopped)
                    if logs or update.number == total:
                        trainer.watch.check()
                        count = update.number - start.update
                        rate = count * samples_each / (time.monotonic() - began)
                        yield self._log(update, total, rate, record)
                    if update.save:
                        self._save(trainer, done, clock)
                        saved, last_save = done, time.monotonic()
                if done != saved:
                    self._save(trainer, done, clock)
            except PeerLost as error:
                if not self._sharded and settles(self.device):
                    # What this process holds is whole: no update is half done.
                    self._save(trainer, done, clock)
                raise PeerLost(f"{error}; {self._go_on()}") from error
        if done.update < total:
            raise self._interrupted(f"after update {done.update}")

    def _wait_for_device(self, stopped: Callable[[], bool]) -> None:
        """Wait until what was asked of the device is done, or this process is asked to stop.

        Raises:
            PeerLost: it was, or has waited long: a sum with a process that died never ends.
        """
        if self._sharded or self.processes.count == 1:
            return
        end = time.monotonic() + PATIENCE.total_seconds()
        while not settles(self.device, seconds=1.0):
            if stopped() or time.monotonic() > end:
                raise PeerLost("the device waits for another process of this training")

    @property
    def _records_scalars(self) -> bool:
        return self.spec.train.tensorboard and self.processes.leads

    def _log(
        self, update: Update, total: int, rate: float, record: Callable[[str, float, int], None]
    ) -> Progress:
        loss = float(update.loss)
        # JSON has no word for what is no number.
        entry = {"update": update.number, "loss": loss if isfinite(loss) else None}
        if self.processes.leads:
            names = [submodel.name for submodel in update.submodels]
            self.run.log({**entry, "lr": update.lr, "submodels": names})
        record("train/loss", loss, update.number)
        record("train/lr", update.lr, update.number)
        return Progress(update.number, total, loss, update.lr, update.submodels, rate)

    def _save(self, trainer: Trainer, done: Position, clock: float) -> None:
        trainer.watch.check()
        check_weights(trainer.network, done.update, self.processes)
        if not self.processes.leads and not self._sharded:
            return
        state = Checkpoint(
            update=done.update,
            batches=done.batches,
            seconds=time.monotonic() - clock,
            space=trainer.network.space.as_lists(),
            weights=trainer.network.weights,
            optimizer=trainer.optimizer.state(),
        )
        if self._sharded:
            from sortednet_cli.engine.training.sharding import save_together

            save_together(self.processes, self.run, state)
        else:
            save_checkpoint(self.run, state)

    def _score(
        self, trainer: Trainer, stopped: Callable[[], bool]
    ) -> Generator[Scored, None, list[Row]]:
        """Measure statistics, costs and scores of every sub-model, one event for each.

        Each process takes its share of the groups, or its part in every pass.
        """
        network, task, rows = trainer.network, trainer.task, list[Row]()
        inputs, samples = self.data.format, self.spec.train.recalibrate_samples
        sizes = BatchSizes.of(network, inputs)
        groups = network.groups(network.space.submodels)
        if not self._sharded:
            groups = list(self.processes.share(groups))
        at_once = 1 if self._sharded else self.processes.count
        cut = False

        def between() -> None:
            if stopped():
                raise _Cut

        try:
            for group in groups:
                ensure_statistics(network, group, self.data, sizes, samples, between)
                with lost_peers():
                    splits = ("validation", "test")
                    found = score(network, group, self.data, splits, task, sizes, between)
                for submodel in reversed(group):
                    cost = cost_of(self.family, submodel, inputs.random_inputs, inputs.num_units)
                    rows.append(Row(submodel, cost.params, cost.macs, found[submodel]))
                    yield Scored(rows[-1], len(rows) * at_once, len(network.space))
        except _Cut:
            cut = True
        if any(self.processes.any(cut)):
            raise self._interrupted("while scoring the sub-models")
        gather_statistics(self.processes, network)
        return gather_rows(self.processes, rows, network.space)

    def _go_on(self) -> str:
        saved = newest_checkpoint(self.run)
        kept = f"update {saved.counters.update} is saved" if saved else "no update is saved"
        return f"{kept}; go on with: sortednet train --resume {self.run.path}"

    def _interrupted(self, when: str) -> Interrupted:
        why = "the launcher of this job has died: " if self.processes.abandoned else ""
        return Interrupted(
            f"{why}stopped {when}; go on with: sortednet train --resume {self.run.path}"
        )

    def _store(self, trainer: Trainer, rows: list[Row]) -> dict[Path, FileCheck]:
        """Write the finished network and its table; return what is known of the files."""
        network, run = trainer.network, self.run
        written: dict[Path, FileCheck] = {}
        if self._sharded:
            from sortednet_cli.engine.training.sharding import write_together

            written |= write_together(self.processes, run.weights, network)
        elif self.processes.leads:
            written[run.weights] = write_tensors(run.weights, network.weights)
        if not self.processes.leads:
            return written
        written[run.statistics] = write_tensors(run.statistics, flat_statistics(network))
        table = {"metric": trainer.task.metric, "submodels": [row.stored() for row in rows]}
        write_json(run.table, table)
        return written


def open_fit(processes: Processes, start: Callable[[], Fit], again: Callable[[Path], Fit]) -> Fit:
    """Let the first process start or reopen a run, and all others open the same one.

    Raises:
        Elsewhere: the first process could not; it says why.
    """
    made: list[Fit] = []

    def lead() -> str:
        made.append(start())
        return str(made[0].run.path.absolute())

    path = processes.lead("run", lead)
    return made[0] if made else again(Path(path))
