"""The driver of the training loop: logs, checkpoints, and how it ends early."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite

from sortednet_cli.distributed.processes import PeerLost, lost_peers
from sortednet_cli.engine.training.backends import Backend
from sortednet_cli.engine.training.events import Interrupted, Updated
from sortednet_cli.engine.training.loop import Position, Trainer, Update
from sortednet_cli.engine.training.nonfinite import check_weights
from sortednet_cli.engine.training.trackers import Recorder
from sortednet_cli.errors import RequestError, as_word
from sortednet_cli.machine.device import finishes_in_time
from sortednet_cli.storage.checkpoint import Checkpoint, newest_checkpoint
from sortednet_cli.storage.run import RunFolder


@dataclass
class Driver:
    """Drives the updates of a run, and remembers how far it has come.

    Attributes:
        recorder: the trackers; none in all processes but the first.
        begun: when the training would have begun, had it never been interrupted.
    """

    run: RunFolder
    trainer: Trainer
    backend: Backend
    recorder: Recorder
    begun: float

    def __post_init__(self) -> None:
        self._done = self._saved = Position()
        self._last_save = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds that the run has trained, over all sessions."""
        return time.monotonic() - self.begun

    def updates(self, start: Position, stopped: Callable[[], bool]) -> Iterator[Updated]:
        """Run the updates after `start`; log and save as the spec says.

        Raises:
            Interrupted: `stopped()` became true in any process; a checkpoint has been written.
            PeerLost: another process has gone; the message says what is saved.
            RequestError: the spec ends before `start`.
            WorkError: training diverged, or the run's folder cannot be written.
        """
        total = self.trainer.schedule(start).total
        if start.update > total:
            raise RequestError(
                f"{self.run.path}: the checkpoint is of update {start.update}, and train.updates ="
                f" {total} in spec.toml ends before it"
            )
        self._done = self._saved = start
        self._last_save = time.monotonic()
        try:
            with lost_peers():
                yield from self._updates(start, total, stopped)
                if self._done != self._saved:
                    self._save()
        except PeerLost as error:
            if self.backend.whole_after_loss and finishes_in_time(self.trainer.network.device):
                self._save()  # no update is half done
            raise PeerLost(f"{error}; {self._go_on()}") from error
        if self._done.update < total:
            raise self.interrupted(f"after update {self._done.update}")

    def interrupted(self, when: str) -> Interrupted:
        """The error that ends a training which can be resumed."""
        abandoned = self.trainer.processes.abandoned
        why = "the launcher of this job has died: " if abandoned else ""
        return Interrupted(f"{why}stopped {when}; {self._how_to_go_on}")

    def _updates(
        self, start: Position, total: int, stopped: Callable[[], bool]
    ) -> Iterator[Updated]:
        trainer, began = self.trainer, time.monotonic()
        samples_each = trainer.spec.batch_size * trainer.batches_each
        for update in trainer.updates(start, stopped, self._due):
            self._done = update.position
            logs = update.number % trainer.spec.log_every == 0 or update.number == total
            if logs or update.save:
                self.backend.wait_for_device(trainer.network.device, stopped)
            if logs:
                trainer.watch.check()
                count = update.number - start.update
                rate = count * samples_each / (time.monotonic() - began)
                yield self._log(update, total, rate)
            if update.save:
                self._save()

    def _due(self) -> bool:
        """Whether this process asks for a checkpoint."""
        waited = time.monotonic() - self._last_save
        return self.trainer.processes.leads and waited > 60 * self.trainer.spec.checkpoint_minutes

    def _log(self, update: Update, total: int, rate: float) -> Updated:
        loss = float(update.loss)
        # JSON has no word for what is no number.
        entry = {"update": update.number, "loss": loss if isfinite(loss) else None}
        if self.trainer.processes.leads:
            names = [submodel.name for submodel in update.submodels]
            self.run.log({**entry, "lr": update.lr, "submodels": names})
        self.recorder.record(update.number, {"train/loss": loss, "train/lr": update.lr})
        return Updated(update.number, total, loss, update.lr, update.submodels, rate)

    def _save(self) -> None:
        trainer = self.trainer
        trainer.watch.check()
        check_weights(trainer.network, self._done.update, trainer.processes)
        self.backend.save(self.run, self._state)
        self._saved, self._last_save = self._done, time.monotonic()

    def _state(self) -> Checkpoint:
        return Checkpoint(
            update=self._done.update,
            batches=self._done.batches,
            seconds=self.seconds,
            space=self.trainer.network.space.as_lists(),
            weights=self.trainer.network.weights,
            optimizer=self.trainer.optimizer.state(),
            nonfinite=self.trainer.watch.count,
        )

    @property
    def _how_to_go_on(self) -> str:
        return f"go on with: sortednet train --resume {as_word(self.run.path)}"

    def _go_on(self) -> str:
        saved = newest_checkpoint(self.run)
        kept = f"update {saved.counters.update} is saved" if saved else "no update is saved"
        return f"{kept}; {self._how_to_go_on}"
