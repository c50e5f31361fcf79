"""Read the images of a tar without writing to disk and without trusting its names."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from sortednet_cli.bounded import check_regular
from sortednet_cli.data.images.sources.base import EXPECTED
from sortednet_cli.data.images.tree import Listing
from sortednet_cli.errors import RequestError, reason_of

MAX_MEMBERS = 5_000_000
MAX_TOTAL = 200 * 2**30
MAX_MEMBER = 256 * 2**20
# Images hardly compress further: an archive that grows more than this is meant to fill a machine.
MAX_GROWTH = 200
FREE_GROWTH = 2**30
# Formats that users often mistake for a tar, by their first bytes.
_OTHER_ARCHIVES = {
    b"PK\x03\x04": "a zip",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a rar archive",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
}
_COMPRESSIONS: dict[bytes, Callable[[IO[bytes]], object]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}


class _BoundedFile:
    """A file that refuses huge reads: tarfile reads an entire extended header at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_MEMBER + tarfile.RECORDSIZE:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return self._file.read(size)

    def seek(self, position: int) -> int:
        return self._file.seek(position)

    def tell(self) -> int:
        return self._file.tell()


def read_images(path: Path, listing: Listing) -> Iterator[tuple[str, bytes]]:
    """Yield (path inside the tree, bytes) of each image in a tar, in the tar's order.

    Every member is added to `listing`.

    Raises:
        RequestError: the file is not a readable tar, or it has a member that no data set needs: an
            absolute name or one with `..`, a link, a device, a repeated name, or a size beyond the
            bounds. The message names the member.
    """
    seen: set[str] = set()
    total = 0
    most = max(FREE_GROWTH, MAX_GROWTH * path.stat().st_size)
    with _tar(path) as tar:
        for count, member in enumerate(iter(tar.next, None), start=1):
            name = _checked_name(path, member)
            total += member.size
            if count > MAX_MEMBERS or total > MAX_TOTAL:
                raise RequestError(
                    f"{path.name}: more than {MAX_MEMBERS:,} members or"
                    f" {MAX_TOTAL // 2**30} GiB, at {name}"
                )
            if total > most:
                raise RequestError(
                    f"{path.name}: it unpacks to more than {MAX_GROWTH} times its size, at {name}"
                )
            # tarfile keeps every member in memory, but none is needed again.
            tar.members.clear()  # type: ignore[attr-defined]
            if name and member.isdir():
                if listing.is_visible(name):
                    listing.folders.add(name)
            elif name and listing.add_file(name):
                if name in seen:
                    raise RequestError(f"{path.name}: the member {name} occurs twice")
                seen.add(name)
                listing.folders.update(_parents(name))
                yield name, cast(IO[bytes], tar.extractfile(member)).read()
        _check_end(tar)


@contextmanager
def _tar(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        check_regular(path)
        with path.open("rb") as raw:
            start = raw.read(6)
            raw.seek(0)
            if other := next((o for m, o in _OTHER_ARCHIVES.items() if start.startswith(m)), None):
                raise tarfile.ReadError(f"it is {other}: unpack it into a folder")
            open_compressed = next(
                (o for magic, o in _COMPRESSIONS.items() if start.startswith(magic)), None
            )
            file = cast(IO[bytes], open_compressed(raw)) if open_compressed else raw
            with tarfile.open(fileobj=cast(IO[bytes], _BoundedFile(file)), mode="r:") as tar:
                yield tar
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError) as error:
        problem = f"{path} is not a readable tar ({reason_of(error)})"
        raise RequestError(f"{problem}: {EXPECTED}") from error


def _check_end(tar: tarfile.TarFile) -> None:
    # tarfile treats a damaged or missing header as the end of the archive.
    file = cast(IO[bytes], tar.fileobj)
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it is truncated or damaged")


def _checked_name(path: Path, member: tarfile.TarInfo) -> str:
    """Return the member's name without `./`; RequestError names an illegal member."""
    name = member.name
    parts = re.split(r"[/\\]", name)
    if name.startswith(("/", "\\")) or ".." in parts or re.match(r"[A-Za-z]:", name):
        raise RequestError(f"{path.name}: the member {name!r} points outside the archive")
    if not (member.isdir() or member.isreg()) or member.issparse():
        raise RequestError(
            f"{path.name}: the member {name!r} is neither a regular file nor a folder"
        )
    if member.size > MAX_MEMBER:
        raise RequestError(
            f"{path.name}: the member {name!r} is larger than {MAX_MEMBER // 2**20} MiB"
        )
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _parents(name: str) -> Iterator[str]:
    parts = name.split("/")[:-1]
    return ("/".join(parts[:stop]) for stop in range(1, len(parts) + 1))
