"""Checksums: what a folder's manifest says of its files, and of itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from sortednet_cli.errors import RequestError
from sortednet_cli.storage.files import parse_json, read_bytes, write_text
from sortednet_cli.storage.temporary import SUFFIX

DIGEST = "digest"
"""Key of a sealed file for the SHA-256 of all its other bytes; always its last key."""


class FileCheck(BaseModel):
    """What a file's content was when it was written."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    bytes: NonNegativeInt
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

    @classmethod
    def of(cls, path: Path) -> FileCheck:
        """Read a file, a block at a time; RequestError if that cannot be."""
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                return cls(bytes=file.tell(), sha256=digest)
        except OSError as error:
            raise RequestError(f"cannot read {path}: {error.strerror or error}") from error


def checks_of(
    folder: Path, files: Iterable[Path], known: Mapping[Path, FileCheck]
) -> dict[str, dict[str, Any]]:
    """What a manifest in `folder` stores of its files.

    Args:
        known: of the files whose content went by when they were written.
    """
    return {
        path.relative_to(folder).as_posix(): (known.get(path) or FileCheck.of(path)).model_dump()
        for path in sorted(files)
    }


@dataclass(frozen=True)
class Checks:
    """Compares files with what their manifest says of them.

    `files` is None where it says nothing: the folder is unfinished, or of format 1.
    """

    manifest: Path
    files: Mapping[str, FileCheck] | None
    _seen: dict[Path, tuple[int, ...]] = field(default_factory=dict, compare=False)

    def verify(self, *paths: Path) -> None:
        """Check files before they are believed, each once as long as nobody touches it.

        Raises:
            RequestError: names the first one that is missing, damaged or none of the folder's.
        """
        for path in paths if self.files is not None else ():
            problem = self.problem(path)
            if problem is not None:
                raise RequestError(f"{path} {problem}")

    def verify_all_but(self, *endings: str) -> None:
        """Check all files but those whose names end so."""
        names = [name for name in self.files or () if not name.endswith(endings)]
        self.verify(*(self.manifest.parent / name for name in names))

    def problem(self, path: Path) -> str | None:
        """What is wrong with a file, to be said after its name."""
        name = path.relative_to(self.manifest.parent).as_posix()
        wanted = (self.files or {}).get(name)
        if wanted is None:
            return f"does not belong here: {self.manifest.name} does not name it"
        if not path.is_file():
            return f"is missing; {self.manifest.name} names it"
        facts = path.stat()
        stamp = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        if self._seen.get(path) == stamp:
            return None
        if facts.st_size != wanted.bytes:
            return f"is damaged: it has {facts.st_size:,} bytes instead of {wanted.bytes:,}"
        if FileCheck.of(path) != wanted:
            return f"is damaged: its checksum is not the one in {self.manifest.name}"
        self._seen[path] = stamp
        return None


def write_sealed(path: Path, table: Mapping[str, Any]) -> None:
    """Write a JSON file that carries the digest of its own content."""
    open_table = {key: value for key, value in table.items() if key != DIGEST}
    text = json.dumps({**open_table, DIGEST: ""}, indent=1) + "\n"
    head, empty, tail = text.rpartition('""')
    assert empty
    digest = hashlib.sha256(text.encode()).hexdigest()
    write_text(path, f'{head}"{digest}"{tail}')


def read_sealed(path: Path, *, required: bool) -> dict[str, Any]:
    """Read a JSON file and check its digest, which may be missing unless `required`."""
    content = read_bytes(path)
    table = parse_json(content, path)
    check_seal(content, table, path, required=required)
    return table


def check_seal(content: bytes, table: Mapping[str, Any], path: Path, *, required: bool) -> None:
    """Check the digest in what was read from `path`.

    Raises:
        RequestError: a bit of it is another one than was written.
    """
    stored = table.get(DIGEST)
    if stored is None and not required:
        return
    head, found, tail = content.rpartition(str(stored).encode(errors="replace"))
    if not found or hashlib.sha256(head + tail).hexdigest() != stored:
        raise RequestError(f"{path} is damaged: it is not what it was when it was written")


def files_under(folder: Path, beside: Iterable[str] = ()) -> Iterator[Path]:
    """All files of a folder but its entries named in `beside`, and temporary ones."""
    skipped = set(beside)
    for path in sorted(folder.iterdir()):
        if path.name in skipped or path.name.endswith(SUFFIX):
            continue
        if path.is_dir():
            yield from files_under(path)
        else:
            yield path
