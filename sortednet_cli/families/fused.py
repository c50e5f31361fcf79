"""Fused tensors: several tensors in one, such as query, key and value. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from sortednet_cli.errors import RequestError


@dataclass(frozen=True)
class Fused:
    """The parts that a tensor holds one after another. An axis shrinks each of them.

    Attributes:
        parts: the sizes of the parts in proportion, such as (1, 1, 1).
        dim: the dimension of a weight along which they lie. A tensor of one dimension, a bias,
            has them along that one.
    """

    parts: tuple[int, ...]
    dim: int = 0

    def sizes(self, name: str, size: int) -> tuple[int, ...]:
        """Return the sizes of the parts of `size` entries; RequestError if they are not whole."""
        unit, rest = divmod(size, sum(self.parts))
        if rest:
            count = len(self.parts)
            equal = f"{count} equal parts" if len(set(self.parts)) == 1 else f"parts {self.parts}"
            raise RequestError(f"{name}: {size} entries cannot be divided into {equal}")
        return tuple(unit * part for part in self.parts)


def declared_fused(declaration: Mapping[str, Any]) -> dict[str, Fused]:
    """Read the fused tensors that a spec declares, as a root's declaration holds them."""
    declared = declaration.get("fused") or {}
    return {p: Fused(tuple(given["parts"]), given["dim"]) for p, given in declared.items()}


def fused_as(name: str, declared: Mapping[str, Fused]) -> Fused | None:
    """Find the declaration of a tensor, by a pattern of its name or of its module's.

    Args:
        name: the tensor's name.
        declared: by pattern, in which `*` stands for anything.
    """
    path = name.rpartition(".")[0]
    for pattern, fused in declared.items():
        if fnmatchcase(name, pattern) or fnmatchcase(path, pattern):
            return fused
    return None
