"""Checksums: a folder's manifest stores them for its files, and a digest of its own content."""

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
"""Key of a sealed file that holds the SHA-256 of all its other bytes; always the last key."""


class FileCheck(BaseModel):
    """Size and checksum of a file when it was written."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    bytes: NonNegativeInt
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

    @classmethod
    def of(cls, path: Path) -> FileCheck:
        """Compute the check of a file, block by block; RequestError if it cannot be read."""
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                return cls(bytes=file.tell(), sha256=digest)
        except OSError as error:
            raise RequestError(f"cannot read {path}: {error.strerror or error}") from error


def checks_of(
    folder: Path, files: Iterable[Path], computed: Mapping[Path, FileCheck]
) -> dict[str, dict[str, Any]]:
    """Return the checksums that a manifest in `folder` stores for its files.

    Args:
        computed: checks that were already computed while the files were written.
    """
    return {
        path.relative_to(folder).as_posix(): (computed.get(path) or FileCheck.of(path)).model_dump()
        for path in sorted(files)
    }


@dataclass(frozen=True)
class Checks:
    """Compares files with the checksums in their manifest.

    `files` is None if the manifest has none: the run is unfinished, or the folder has format 1.
    """

    manifest: Path
    files: Mapping[str, FileCheck] | None
    _seen: dict[Path, tuple[int, ...]] = field(default_factory=dict, compare=False)

    def verify(self, *paths: Path) -> None:
        """Compare files with their checksums. A file is read again only if it has changed.

        Raises:
            RequestError: names the first file that is missing, damaged or not in the manifest.
        """
        for path in paths if self.files is not None else ():
            problem = self.problem(path)
            if problem is not None:
                raise RequestError(f"{path} {problem}")

    def verify_all_but(self, *endings: str) -> None:
        """Verify all files except those whose names have one of the endings."""
        names = [name for name in self.files or () if not name.endswith(endings)]
        self.verify(*(self.manifest.parent / name for name in names))

    def problem(self, path: Path) -> str | None:
        """Describe what is wrong with a file, as a phrase that follows its name; None if fine."""
        name = path.relative_to(self.manifest.parent).as_posix()
        stored = (self.files or {}).get(name)
        if stored is None:
            return f"does not belong here: {self.manifest.name} does not name it"
        if not path.is_file():
            return f"is missing; {self.manifest.name} names it"
        facts = path.stat()
        stamp = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        if self._seen.get(path) == stamp:
            return None
        if facts.st_size != stored.bytes:
            return f"is damaged: it has {facts.st_size:,} bytes instead of {stored.bytes:,}"
        if FileCheck.of(path) != stored:
            return f"is damaged: its checksum is not the one in {self.manifest.name}"
        self._seen[path] = stamp
        return None


def write_sealed(path: Path, table: Mapping[str, Any]) -> None:
    """Write a JSON file that holds the digest of its own content.

    A digest in a file of its own would take a second write, and a crash between the two would leave
    a sound file that looks damaged.
    """
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
    """Compare content read from `path` with the digest in it.

    Raises:
        RequestError: the content has changed since it was written.
    """
    stored = table.get(DIGEST)
    if stored is None and not required:
        return
    head, digest, tail = content.rpartition(str(stored).encode(errors="replace"))
    if not digest or hashlib.sha256(head + tail).hexdigest() != stored:
        raise RequestError(f"{path} is damaged: its content has changed since it was written")


def files_under(folder: Path, skip: Iterable[str] = ()) -> Iterator[Path]:
    """Yield all files under a folder, without temporary ones and its entries named in `skip`."""
    skipped = set(skip)
    for path in sorted(folder.iterdir()):
        if path.name in skipped or path.name.endswith(SUFFIX):
            continue
        if path.is_dir():
            yield from files_under(path)
        else:
            yield path
