"""The source `pydoc`: the reference text that ships with every Python."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sortednet_cli.data.text.sources.base import TextSource
from sortednet_cli.spec import TextDataSpec

if TYPE_CHECKING:
    from sortednet_cli.data.text.locate import Tables


class Pydoc(TextSource):
    """The topics of Python's help, in the order of their names."""

    refusal: ClassVar[str] = (
        "the topics of Python's help are built in and take no path; for texts of your own set"
        ' data.source = "text"'
    )

    def read(self, spec: TextDataSpec, found: Path | None) -> Tables:
        from pydoc_data.topics import topics

        from sortednet_cli.data.text.files import documents

        return {"train": documents([topics[name] for name in sorted(topics)], "pydoc")}
