"""Splits in several files: which files belong together, their order, and missing ones."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sortednet_cli.data.text.files import is_table, split_name
from sortednet_cli.errors import RequestError, listed, shortened

_SHARD = re.compile(r"(?P<split>.+)[-.](?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})(-[0-9a-f]+)?")


def split_of(stem: str) -> str:
    """Return the split that a file belongs to: `train` for `train-00000-of-00002-3f2a`."""
    shard = _SHARD.fullmatch(stem)
    return shard["split"] if shard else stem


def in_order(files: Sequence[str]) -> list[str]:
    """Sort the files of a split by number if they have numbers, else by name.

    Numbered names are `train-00000-of-00002.parquet`, or `0000.parquet` for tables.

    Raises:
        RequestError: a number is missing or repeated, or tables have different suffixes.
    """
    stems, kinds = zip(*(_named(file) for file in files), strict=True)
    tables = all(map(is_table, kinds))
    if tables and len(set(kinds)) > 1:
        raise RequestError(
            f"{_some(files)}: tables of several kinds; keep only one of {listed(set(kinds))}"
        )
    shards = [match for match in map(_SHARD.fullmatch, stems) if match]
    if shards:
        expected = range(int(shards[0]["count"]))
        numbers = [int(shard["number"]) for shard in shards]
        counts = {shard["count"] for shard in shards}
        if len(shards) < len(files) or len(counts) > 1 or len(set(numbers)) < len(numbers):
            raise RequestError(f"{_some(files)}: more than one set of files for one part")
    elif tables and all(stem.isdecimal() for stem in stems):
        numbers = [int(stem) for stem in stems]
        expected = range(min(1, *numbers), max(numbers) + 1)
    else:
        return sorted(files)
    if missing := sorted(set(expected) - set(numbers)):
        raise RequestError(
            f"{_some(files)}: the part is incomplete: number"
            f" {shortened(list(map(str, missing)))} is missing"
        )
    return [file for _, file in sorted(zip(numbers, files, strict=True))]


def _named(file: str) -> tuple[str, str]:
    name = file.rpartition("/")[2]
    return split_name(name) or (name, "")


def _some(files: Sequence[str]) -> str:
    return shortened(sorted(files), 3)
