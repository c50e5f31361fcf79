"""The description of a root network, and checks of its configuration. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sortednet_cli.errors import RequestError
from sortednet_cli.wrong_values import wrong_values

Config = dict[str, Any]
"""A stock configuration, as JSON values."""

MAX_BLOCKS = 4096
"""Most blocks of a network, which limits the time that building a skeleton takes."""


@dataclass(frozen=True)
class Root:
    """A description of the root network: enough to build it, shrink it and map its blocks.

    A run and every artifact cut from it store the same root, so that axis values always mean the
    same.

    Attributes:
        family: name of the family.
        config: stock configuration of the root network.
        depth_order: order in which depth removes blocks.
        declaration: factory, axes, blocks and fused tensors of a custom model; empty for other
            families.
        own_norms: the axes, and their values, that have norms of their own; empty if all sub-models
            share slices of the same norms.
    """

    family: str
    config: Config
    depth_order: str
    declaration: Mapping[str, Any] = field(default_factory=dict)
    own_norms: Mapping[str, tuple[int | float, ...]] = field(default_factory=dict)


def entry(config: Mapping[str, Any], key: str, kind: Any) -> Any:
    """Read an entry of a configuration, and check its type.

    Args:
        kind: the required type, as pydantic takes it.

    Raises:
        RequestError: the entry is missing, or has another type.
    """
    if key not in config:
        raise RequestError(f"model.config.{key}: it is missing")
    try:
        TypeAdapter(kind).validate_python(config[key], strict=True)
    except ValidationError as error:
        first = next(wrong_values(error.errors()))
        path = ".".join(map(str, (key, *first.path)))
        raise RequestError(f"model.config.{path}: {first.message}") from error
    return config[key]


def check_blocks(counts: Sequence[int]) -> None:
    """RequestError if the stages have no blocks, or more than `MAX_BLOCKS` together."""
    if sum(abs(count) for count in counts) > MAX_BLOCKS:
        raise RequestError(f"model.config: more than {MAX_BLOCKS:,} blocks")
    if sum(counts) < 1 or min(counts) < 0:
        raise RequestError(f"model.config: {sum(counts)} blocks")


def scaled(channels: int, width: float) -> int:
    """Scale a number of channels and round it to the nearest integer, halves upwards.

    Raises:
        RequestError: no channel would be left.
    """
    count = int(channels * width + 0.5)
    if count < 1:
        raise RequestError(f"width {width:g} leaves no channel of {channels}")
    return count
