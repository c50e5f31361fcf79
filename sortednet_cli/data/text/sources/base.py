"""The abstract source of texts."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from sortednet_cli.spec import TextDataSpec
from sortednet_cli.spec.data_sources import DataSource

if TYPE_CHECKING:
    from sortednet_cli.data.text.locate import Tables


class TextSource(DataSource):
    """A source of texts: whole ones, or tables with columns."""

    kind: ClassVar[Literal["image", "text"]] = "text"
    expected: ClassVar[str] = (
        "expected a file of texts, a folder with train.*, dev.* and test.*, or a folder of plain"
        " texts"
    )

    @abstractmethod
    def read(self, spec: TextDataSpec, found: Path | None) -> Tables:
        """Read a table for each part that there is; there is always a train part.

        Args:
            found: what `find` gives for `spec.path`.

        Raises:
            RequestError: what is found cannot be read; says what was expected.
            WorkError: a download fails.
        """
