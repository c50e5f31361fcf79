"""The abstract tracker: where a training's values go, beside the run's own log."""

from __future__ import annotations

import tomllib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sortednet_cli.bounded import MAX_SPEC, read_bounded
from sortednet_cli.errors import RequestError, install_line
from sortednet_cli.storage.files import write_text, writing

PROJECT = "sortednet"
"""What services that group runs call the group, unless the user names another."""

_MAX_ID = 1000
"""Most bytes of the file that keeps a record's id."""


class Tracker(ABC):
    """Takes values by name as a training goes. The first process of a job has it alone.

    Its module imports neither torch nor the tracker's own package: it is asked to `check` before.
    An error of the class before the first update ends the training with one message. After a later
    one the training goes on without the tracker, and says so.

    Attributes:
        failed: whether an error or a signal ended the training; set before `close` is called.
    """

    failed = False

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

    def record_frontier(  # noqa: B027 - not every tracker shows it
        self, rows: Sequence[Mapping[str, Any]], picture: Path
    ) -> None:
        """Take the sub-models, as JSON shows them, and the picture of their frontier, a PNG file.

        Called once all are scored, and again if the run is then killed and resumed.
        """

    @abstractmethod
    def close(self) -> None:
        """Write what is left. Called once, however the training ends."""


def require(tracker: str, *modules: str) -> None:
    """RequestError, with the line that installs them, unless all modules are there."""
    if not all(find_spec(module) for module in modules):
        raise RequestError(f"the tracker {tracker!r} needs: {install_line(tracker)}")


def kept_id(folder: Path, make: Callable[[], str]) -> str:
    """Return the id of a run's record, made at the first time and kept in a tracker's folder."""
    file = folder / "id"
    if file.is_file():
        return read_bounded(file, _MAX_ID).decode().strip()
    made = make()
    with writing(folder):
        folder.mkdir(exist_ok=True)
    write_text(file, f"{made}\n")
    return made


def spec_of(run: Path) -> dict[str, Any]:
    """Read the spec of a run, as tables of values."""
    return tomllib.loads(read_bounded(run / "spec.toml", MAX_SPEC).decode())


def flat_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """The columns and cells of a table of sub-models: one column for each axis and metric."""
    flat = [{**row, **row["axes"], **row["metrics"]} for row in rows]
    columns = [key for key, value in flat[0].items() if not isinstance(value, dict)]
    return columns, [[row[key] for key in columns] for row in flat]
