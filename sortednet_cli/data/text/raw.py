"""Read text files: unpack them, decode UTF-8, and bound the length of lines."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path

from sortednet_cli.bounded import MAX_TEXT, check_regular, read_bounded
from sortednet_cli.errors import RequestError

MAX_LINE_BYTES = 1_000_000
"""A tokenizer takes minutes for a word of a megabyte, and hardly any text has such a line."""
MAX_GROWTH = 200
"""Largest growth of a packed file when unpacked; `FREE_GROWTH` bytes are always allowed."""
FREE_GROWTH = 1 << 28
PACKED = ".gz"
# UTF-32 first: its little-endian mark starts with that of UTF-16.
_OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_characters(path: Path, where: str) -> str:
    """Read a file without its byte order mark, and unpack it if its name ends in `.gz`.

    Raises:
        RequestError: the file cannot be read or unpacked, is not UTF-8, or holds NUL bytes; the
            message names `where`.
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
    if (offset := data.find(b"\0")) >= 0:
        raise RequestError(
            f"{where}, line {_line_of(data, offset)}: a NUL byte, which no text has; if the file"
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
    """Read lines without their line feeds; RequestError for an empty file or a too long line."""
    text = read_characters(path, where)
    if not text.strip():
        raise RequestError(f"{where} is empty")
    if "\n" not in text and "\r" in text:
        raise RequestError(f"{where} ends lines only with carriage returns: use line feeds")
    lines = text.split("\n")
    check_lines(lines, where, "put a document of that length into a file of its own")
    return lines


def check_lines(lines: Iterable[str], where: str, advice: str) -> None:
    """Raise RequestError for a line that is too long."""
    for number, line in enumerate(lines, 1):
        if is_too_long(line):
            raise RequestError(
                f"{where}, line {number}: longer than {MAX_LINE_BYTES:,} bytes; {advice}"
            )


def is_too_long(line: str) -> bool:
    # A character has at most 4 bytes, so few lines need encoding to be measured.
    return len(line) * 4 > MAX_LINE_BYTES and len(line.encode(errors="replace")) > MAX_LINE_BYTES


def max_unpacked(size: int) -> int:
    """Most bytes that a packed file of `size` bytes may unpack to."""
    return min(MAX_TEXT, max(FREE_GROWTH, MAX_GROWTH * size))


def unpacks_too_far(where: str) -> RequestError:
    return RequestError(f"{where} unpacks to more than {MAX_GROWTH} times its size")


def _unpacked(path: Path, where: str) -> bytes:
    most = max_unpacked(check_regular(path, MAX_TEXT))
    data = bytearray()
    try:
        with gzip.open(path) as file:
            while chunk := file.read(1 << 20):
                data += chunk
                if len(data) > most:
                    raise unpacks_too_far(where)
    except gzip.BadGzipFile as error:
        raise RequestError(f"{where} is not a gzip file, or it is damaged") from error
    except (EOFError, zlib.error) as error:
        raise RequestError(f"{where} cannot be unpacked: it is truncated or damaged") from error
    return bytes(data)


def _line_of(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1
