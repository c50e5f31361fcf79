"""A nested network of fake tensors."""

from __future__ import annotations

from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.space import SubModel


class Unshared(NestedNetwork):
    """A nested network of fake tensors, whose sharing cannot be checked without addresses."""

    def check_sharing(self, submodel: SubModel) -> None:
        pass
