"""Fused parameters of a module, which sees the concatenation of their parts."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils import parametrize

from sortednet_cli.nesting.slices import TensorSlice


class Join(nn.Module):
    """Joins the views of a slice whenever their owner reads the tensor that they make.

    Args:
        piece: the slice.
        count: the number of its views.
    """

    def __init__(self, piece: TensorSlice, count: int) -> None:
        super().__init__()
        self._piece, self._count = piece, count

    def forward(self, *views: Tensor) -> Tensor:
        return self._piece.joined(views)

    def right_inverse(self, tensor: Tensor) -> Sequence[Tensor]:
        """Return as many tensors as torch shall register; `set_joined` replaces them."""
        return [tensor] * self._count


def set_joined(
    owner: nn.Module, name: str, piece: TensorSlice, views: Sequence[nn.Parameter]
) -> None:
    """Let a module's parameter be the tensor that the views of a slice make.

    The module keeps the views as `parametrizations.NAME.original0`, `original1` and so on.
    """
    parametrize.register_parametrization(owner, name, Join(piece, len(views)), unsafe=True)
    originals = owner.parametrizations[name]  # type: ignore[index]
    for number, view in enumerate(views):
        setattr(originals, f"original{number}", view)
