"""A whole training as a stream of events: updates, checkpoints, then every sub-model's row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import torch

from sortednet_cli.allocator import release
from sortednet_cli.data import Dataset
from sortednet_cli.distributed.processes import SINGLE_PROCESS, Processes
from sortednet_cli.engine.evaluation.gather import flat_statistics
from sortednet_cli.engine.sources.root import task_of
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.engine.training.backends import Backend, backend_of
from sortednet_cli.engine.training.deterministic import deterministic
from sortednet_cli.engine.training.driver import Driver
from sortednet_cli.engine.training.events import Event, Finished
from sortednet_cli.engine.training.kernels import with_trusted_precision
from sortednet_cli.engine.training.loop import SMALLER, Position, Trainer
from sortednet_cli.engine.training.requirements import check_pass
from sortednet_cli.engine.training.scoring import score_all
from sortednet_cli.engine.training.teacher import load_teacher, open_teacher
from sortednet_cli.engine.training.trackers import tracking
from sortednet_cli.engine.training.trackers.frontier import record_frontier
from sortednet_cli.errors import SortednetError
from sortednet_cli.families import Family, Inputs
from sortednet_cli.machine.device import true_fp32
from sortednet_cli.machine.memory import enough_memory
from sortednet_cli.machine.precision import warn_of_emulation
from sortednet_cli.nesting import ignore_layout_warning
from sortednet_cli.rules import make_rule
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import RunSpec
from sortednet_cli.storage.checks import FileCheck
from sortednet_cli.storage.files import write_json
from sortednet_cli.storage.run import RunFolder
from sortednet_cli.storage.tensor_writer import write_tensors


@dataclass
class Session:
    """A run being trained: `start.py` makes one; iterate `events()` under its lock.

    Of several processes the first alone creates the run, and writes into it; all others
    reopen it.

    Attributes:
        is_new: whether the run was just created, and is not resumed.
        allowed: factories that may run besides the spec's own, as `MODULE:NAME`.
    """

    run: RunFolder
    spec: RunSpec
    family: Family
    data: Dataset
    device: torch.device
    processes: Processes = SINGLE_PROCESS
    is_new: bool = False
    allowed: tuple[str, ...] = ()

    @cached_property
    def backend(self) -> Backend:
        return backend_of(self.spec.train, self.processes)

    def events(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[Event]:
        """Train, checkpointing now and then; then recalibrate, score and store everything.

        Raises:
            Interrupted: `stopped()` became true, or the job's launcher has died; a checkpoint
                has been written.
            WorkError: training diverged, or the run's folder cannot be written.
        """
        with deterministic(self.spec.train.deterministic), true_fp32():
            yield from self._events(lambda: self.backend.stops(stopped()))

    def _events(self, stopped: Callable[[], bool]) -> Iterator[Event]:
        ignore_layout_warning()
        space = SearchSpace.of(self.spec.space)
        train = with_trusted_precision(
            self.spec.train, self.family, space, self.data.format, self.device
        )
        self.spec = self.spec.model_copy(update={"train": train})
        if self.processes.leads:
            warn_of_emulation(train.precision, self.device)
            # It was unfinished when it was opened; another process may have held it since.
            self.run.require_unfinished()
        with enough_memory("the root network and its gradient", SMALLER):
            trainer, start, seconds = self._prepared()
        trainer.network.inspect = trainer.costs.count
        trackers = self.spec.train.tracker_names if self.processes.leads else ()
        with tracking(trackers, self.run.path, start.update + 1) as recorder:
            driver = Driver(self.run, trainer, self.backend, recorder, time.monotonic() - seconds)
            yield from driver.updates(start, stopped)
            train_seconds, began = driver.seconds, time.monotonic()
            trainer.release()
            if trainer.optimizer.average is not None:
                trainer.optimizer.average.replace_weights()
            release()  # what updates used: scoring needs memory of other sizes
            rows = yield from score_all(driver, trainer.costs, stopped)
            release()
            written = self._store(trainer, rows)
            record_frontier(recorder, self.run.path, self.spec, rows, trainer.task)
        if self.processes.leads:
            self.run.finish(train_seconds, written)
        score_seconds = time.monotonic() - began
        yield Finished(self.run.path, rows, trainer.task.metric, train_seconds, score_seconds)

    def _samples(self, count: int) -> list[Inputs]:
        """The inputs of the first training batches."""
        train = self.spec.train
        batches = self.data.training_batches(
            0, batch_size=train.batch_size, seed=train.seed, device=self.device
        )
        return [inputs for inputs, _ in islice(batches, count)]

    def _prepared(self) -> tuple[Trainer, Position, float]:
        """Prepare; a run that cannot begin is removed, for it holds nothing yet."""
        try:
            return self.prepare()
        except SortednetError:
            if self.is_new and self.processes.leads:
                self.run.discard()
            raise

    def prepare(self) -> tuple[Trainer, Position, float]:
        """Make the trainer, where it begins, and the seconds that it has trained already.

        Raises:
            RequestError: another package's family trains by other logits than its module gives, or
                the teacher has gone or does not fit.
        """
        train = self.spec.train
        space = SearchSpace.of(self.spec.space)
        network, optimizer, saved = self.backend.begin(
            self.run, self.spec, self.family, self.device, self._samples
        )
        check_pass(network, self.data.format)
        if self.processes.leads:
            self.run.clear()
            self.run.cut_log(saved.update if saved else 0)
        task = task_of(self.data.format, train.label_smoothing)
        rule = make_rule(train, space)
        teacher = None
        if train.teacher is not None:
            factories = (*self.spec.model.factories, *self.allowed)
            source = open_teacher(train.teacher, self.data, factories)
            teacher = load_teacher(source, self.data, self.device)
        trainer = Trainer(network, task, rule, self.data, optimizer, train, self.processes, teacher)
        if saved is None:
            return trainer, Position(), 0.0
        trainer.watch.count = saved.nonfinite
        return trainer, Position(saved.update, saved.batches), saved.seconds

    def _store(self, trainer: Trainer, rows: list[Row]) -> dict[Path, FileCheck]:
        """Write the finished network and its table; return what is known of the files."""
        network, run = trainer.network, self.run
        written = self.backend.write_weights(run.weights, network)
        if self.processes.leads:
            written[run.statistics] = write_tensors(run.statistics, flat_statistics(network))
            table = {"metric": trainer.task.metric, "submodels": [row.stored() for row in rows]}
            write_json(run.table, table)
        return written
