"""Data sources: where samples come from, and what can be told of it before it is opened."""

from __future__ import annotations

from abc import ABC
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from sortednet_cli.errors import RequestError, reason_of
from sortednet_cli.spec.vocabulary import SOURCES

if TYPE_CHECKING:
    from sortednet_cli.spec.data import DataSpec


class DataSource(ABC):
    """One data source: an `ImageSource` or a `TextSource`, which also say how to open it.

    Its module imports no torch: a source is asked what it is and where its data lie before.

    Attributes:
        name: what `data.source` calls it.
        kind: of its samples.
        path: whether `data.path` is refused, optional or required.
        path_is_file: False where `data.path` is a name that means no file here, as on a hub.
        refusal: what to tell a user who gives a path that is refused.
        expected: what to tell a user whose path is missing.
    """

    kind: ClassVar[Literal["image", "text"]]
    path: ClassVar[Literal["refused", "optional", "required"]] = "refused"
    path_is_file: ClassVar[bool] = True
    refusal: ClassVar[str] = "this source takes no path"
    expected: ClassVar[str] = "expected a file or a folder"

    def __init__(self, name: str) -> None:
        self.name = name

    def find(self, path: str | None) -> Path | None:
        """Find the file or folder that `data.path` names; None for other data.

        Raises:
            RequestError: the source takes no path, or needs one, or nothing is there.
        """
        if path is None:
            if self.path == "required":
                raise RequestError(
                    f'data.source = "{self.name}" needs --data PATH: {self.expected}'
                )
            return None
        if self.path == "refused":
            raise RequestError(f"data.path: {self.refusal}")
        if not self.path_is_file:
            return None
        found = _absolute(path)
        if not found.exists():
            raise RequestError(f"data.path: {found} does not exist: {self.expected}")
        return found

    def data_name(self, path: str | None, found: Path | None) -> str:
        """Name the data for people; `found` is what `find` gives for the path."""
        if found is None:
            return self.name
        return found.name or self.name


def data_source(name: str) -> DataSource:
    """Make a source; RequestError if another package's cannot be loaded."""
    kind: type[DataSource] = SOURCES.load(name, DataSource)
    return kind(name)


def find_data(spec: DataSpec) -> Path | None:
    """Find the file or folder of a spec's data, as `DataSource.find` does."""
    return data_source(spec.source).find(spec.path)


def _absolute(text: str) -> Path:
    """The whole path of data; RequestError for one that no file can have."""
    try:
        path = Path(text).expanduser().resolve()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or reason_of(error)
        raise RequestError(f"data.path: {text!r} cannot be opened: {reason}") from error
    return path
