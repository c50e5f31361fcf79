"""The root network in words, and how its configuration is read. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sortednet_cli.errors import RequestError

Config = dict[str, Any]
"""A stock configuration: plain values that JSON can hold."""

MAX_BLOCKS = 4096
"""Blocks of a network: each is built, if only in words."""


@dataclass(frozen=True)
class Root:
    """The root network in words: enough to build it, shrink it and map its blocks.

    A run and every artifact cut from it store the same root, so that axis values always
    mean the same thing. `declaration` is what a custom family declares, empty otherwise.
    """

    family: str
    config: Config
    depth_order: str
    declaration: Mapping[str, Any] = field(default_factory=dict)


def entry(config: Mapping[str, Any], key: str, kind: Any) -> Any:
    """Read an entry of a configuration that this package calculates with.

    Args:
        kind: the type that it must have, as pydantic takes types.

    Raises:
        RequestError: it is missing, or of another type.
    """
    if key not in config:
        raise RequestError(f"model.config.{key}: it is missing")
    try:
        TypeAdapter(kind).validate_python(config[key], strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(map(str, (key, *first["loc"])))
        raise RequestError(f"model.config.{path}: {first['msg'].lower()}") from error
    return config[key]


def check_blocks(counts: Sequence[int]) -> None:
    """RequestError for no blocks, or more over all stages than are ever built."""
    if sum(abs(count) for count in counts) > MAX_BLOCKS:
        raise RequestError(f"model.config: more than {MAX_BLOCKS:,} blocks")
    if sum(counts) < 1 or min(counts) < 0:
        raise RequestError(f"model.config: {sum(counts)} blocks")


def scaled(channels: int, width: float) -> int:
    """Scale a channel count and round to the nearest whole one, halves upwards."""
    count = int(channels * width + 0.5)
    if count < 1:
        raise RequestError(f"width {width:g} leaves no channel of {channels}")
    return count
