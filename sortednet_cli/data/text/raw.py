"""The characters of a file of texts: unpacked, UTF-8, in lines of a bounded length."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path

from sortednet_cli.bounded import MAX_TEXT, check_regular, read_bounded
from sortednet_cli.errors import RequestError

LONGEST_LINE = 1_000_000
"""Bytes: a tokenizer takes minutes for a word of a megabyte, and hardly a text has one."""
MAX_GROWTH = 200
"""How many times its size a packed file may unpack to, beyond `FREE_GROWTH` bytes."""
FREE_GROWTH = 1 << 28
PACKED = ".gz"
# UTF-32 first: its mark begins with that of UTF-16.
_OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_characters(path: Path, where: str) -> str:
    """Read a whole file, unpacked if its name ends in `.gz`, without a byte order mark.

    Raises RequestError, naming `where`, for a file that cannot be read or unpacked, is of
    another encoding or holds NUL bytes.
    """
    try:
        packed = path.suffix.lower() == PACKED
        data = _unpacked(path, where) if packed else read_bounded(path, MAX_TEXT)
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror or error}") from error
    for mark, name in _OTHER_MARKS.items():
        if data.startswith(mark):
            raise RequestError(f"{where} is {name}: save it as UTF-8")
    data = data.removeprefix(codecs.BOM_UTF8)
    if (place := data.find(b"\0")) >= 0:
        raise RequestError(
            f"{where}, line {_line_of(data, place)}: a NUL byte, which no text has; if the file"
            " is UTF-16, save it as UTF-8"
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{where}, line {_line_of(data, error.start)}: not valid UTF-8"
            f" (byte 0x{data[error.start]:02x}): save the file as UTF-8"
        ) from error


def read_lines(path: Path, where: str) -> list[str]:
    """Read lines without their line feeds; RequestError for an empty file or a line too long."""
    text = read_characters(path, where)
    if not text.strip():
        raise RequestError(f"{where} is empty")
    if "\n" not in text and "\r" in text:
        raise RequestError(f"{where} ends lines by carriage returns alone: use line feeds")
    lines = text.split("\n")
    check_lines(lines, where, "a document of that length belongs into a file of its own")
    return lines


def check_lines(lines: Iterable[str], where: str, advice: str) -> None:
    """Raise RequestError for a line that is too long."""
    for number, line in enumerate(lines, 1):
        if is_too_long(line):
            raise RequestError(
                f"{where}, line {number}: longer than {LONGEST_LINE:,} bytes; {advice}"
            )


def is_too_long(line: str) -> bool:
    # A character has at most 4 bytes: few lines need to be encoded to be measured.
    return len(line) * 4 > LONGEST_LINE and len(line.encode(errors="replace")) > LONGEST_LINE


def most_unpacked(size: int) -> int:
    """Bytes that a packed file of `size` bytes may unpack to."""
    return min(MAX_TEXT, max(FREE_GROWTH, MAX_GROWTH * size))


def unpacks_too_far(where: str) -> RequestError:
    return RequestError(f"{where} unpacks to more than {MAX_GROWTH} times its size")


def _unpacked(path: Path, where: str) -> bytes:
    most = most_unpacked(check_regular(path, MAX_TEXT))
    data = bytearray()
    try:
        with gzip.open(path) as file:
            while chunk := file.read(1 << 20):
                data += chunk
                if len(data) > most:
                    raise unpacks_too_far(where)
    except gzip.BadGzipFile as error:
        raise RequestError(f"{where} is not packed by gzip, or damaged") from error
    except (EOFError, zlib.error) as error:
        raise RequestError(f"{where} cannot be unpacked: it is cut off or damaged") from error
    return bytes(data)


def _line_of(data: bytes, place: int) -> int:
    return data.count(b"\n", 0, place) + 1
