"""The abstract tracker: where a training's values go, beside the run's own log."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path


class Tracker(ABC):
    """Takes values by name as a training goes. The first process of a job has it alone.

    Its module imports neither torch nor the tracker's own package: it is asked to `check` before.
    An error of the class before the first update ends the training with one message. After a later
    one the training goes on without the tracker, and says so.
    """

    @classmethod  # noqa: B027 - not every tracker needs a package
    def check(cls) -> None:
        """Raise RequestError if what the tracker needs is not there. Runs before torch loads."""

    @abstractmethod
    def __init__(self, run: Path, first: int) -> None:
        """Open the tracker, for a new run or one that goes on.

        Args:
            run: the run's folder. Files of a tracker go into `run / NAME`, where NAME is the
                tracker's; `spec.toml` tells everything about the training.
            first: the first update to come. What was recorded from it on is recorded again.
        """

    @abstractmethod
    def record(self, update: int, values: Mapping[str, float]) -> None:
        """Take the values of an update, such as `train/loss`. A loss may be NaN."""

    @abstractmethod
    def close(self) -> None:
        """Write what is left. Called once, however the training ends."""
