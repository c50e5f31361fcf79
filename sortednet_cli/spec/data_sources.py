"""The base class of data sources, and checks of a source before it is opened. No torch."""

from __future__ import annotations

from abc import ABC
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from sortednet_cli.errors import RequestError, reason_of
from sortednet_cli.spec.vocabulary import SOURCES

if TYPE_CHECKING:
    from sortednet_cli.spec.data import DataSpec

PATH_KEY = "data.path (or --data)"
"""What messages call the place of data."""


class DataSource(ABC):
    """A data source. Its subclasses `ImageSource` and `TextSource` open the data.

    The module of a source must not import torch, because specs are checked before torch is
    imported.

    Attributes:
        name: the value of `data.source`.
        kind: kind of its samples.
        path: whether `data.path` is refused, optional or required.
        path_is_file: whether `data.path` names a local file or folder, and not a name on a hub.
        refusal: message for a user who gives a path that is refused.
        expected: message for a user who gives no path, or one that does not exist.
    """

    kind: ClassVar[Literal["image", "text"]]
    path: ClassVar[Literal["refused", "optional", "required"]] = "refused"
    path_is_file: ClassVar[bool] = True
    refusal: ClassVar[str] = "this source takes no path"
    expected: ClassVar[str] = "expected a file or a folder"

    def __init__(self, name: str) -> None:
        self.name = name

    def find(self, path: str | None) -> Path | None:
        """Find the file or folder that `data.path` names; None if the data are not local files.

        Raises:
            RequestError: the source takes no path, or needs one, or the path does not exist.
        """
        if path is None:
            if self.path == "required":
                raise RequestError(
                    f'data.source = "{self.name}" needs --data PATH: {self.expected}'
                )
            return None
        if self.path == "refused":
            raise RequestError(f"{PATH_KEY}: {self.refusal}")
        if not self.path_is_file:
            return None
        absolute = _absolute(path)
        if not absolute.exists():
            raise RequestError(f"{PATH_KEY}: {absolute} does not exist: {self.expected}")
        return absolute

    def data_name(self, path: str | None, found: Path | None) -> str:
        """Return a name of the data for people.

        Args:
            path: `data.path`.
            found: the result of `find` for this path.
        """
        if found is None:
            return self.name
        return found.name or self.name


def data_source(name: str) -> DataSource:
    """Make the source of a name; RequestError if another package's cannot be loaded."""
    kind: type[DataSource] = SOURCES.load(name, DataSource)
    with SOURCES.making(name):
        return kind(name)


def find_data(spec: DataSpec) -> Path | None:
    """Find the file or folder of a spec's data, as `DataSource.find` does; raises its errors."""
    return data_source(spec.source).find(spec.path)


def _absolute(text: str) -> Path:
    """Make a path absolute; RequestError if no file can have it."""
    try:
        path = Path(text).expanduser().resolve()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or reason_of(error)
        raise RequestError(f"{PATH_KEY}: {text!r} cannot be opened: {reason}") from error
    return path
