"""Fitting a checkpoint's tensors to a stock class, and saying exactly what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from sortednet_cli.errors import RequestError, listed
from sortednet_cli.logs import logger

_MOST_LISTED = 5

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Matching:
    """Which of a checkpoint's tensors belong where in a root network.

    Attributes:
        names: the stored name of each of the network's tensors that the checkpoint has; tied
            ones have one each.
        fresh: of the head, what the checkpoint lacks, with the stored shape where that differs.
        twice: pairs of the network's names that are tied and yet stored one by one.
    """

    names: dict[str, str]
    fresh: list[str]
    twice: list[tuple[str, str]]


def starting_names(found: Matching, read: Callable[[str], Tensor], where: str) -> dict[str, str]:
    """Tell which of a checkpoint's tensors each of the root network's begins its training from.

    A head that the checkpoint lacks keeps its fresh weights, which is said in the log.

    Args:
        read: gives a tensor of the checkpoint by its name.

    Raises:
        RequestError: tied tensors are stored with different values.
    """
    for one, other in found.twice:
        if not torch.equal(read(found.names[one]), read(found.names[other])):
            raise RequestError(
                f"{where} holds different values for {one} and {other}, which its configuration"
                " ties: take model.config.tie_word_embeddings = false to keep both"
            )
    if found.fresh:
        logger.info("fresh weights, not in the checkpoint: %s", shortened(found.fresh))
    return found.names


def matched_names(
    base: str, loader: str, module: nn.Module, shapes: Shapes, where: str
) -> Matching:
    """Tell which of a checkpoint's tensors each tensor of the root network starts from.

    Names are read as transformers reads them: old ones are renamed, and a checkpoint may be of
    the model alone or with a head. What the stock class ignores and what belongs to another
    head is left out; that is said in the log.

    Args:
        base: the attribute that holds the model under its head.
        loader: the stock class, for messages.
        module: the root network; its values do not matter.
        shapes: of the checkpoint's tensors by name.

    Raises:
        RequestError: tensors of the model itself are missing, left over or misshapen.
    """
    own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    prefix = f"{base}."
    found = _stock_names(module, shapes, where)
    tied = _tied_names(module)
    names = {n: old for n in own if (old := _holder(n, tied[n], found)) is not None}
    wrong = [n for n, old in names.items() if own[n] != shapes[old]]
    misshapen = {n: f"{n} {list(shapes[names[n]])} for {list(own[n])}" for n in wrong}
    spare = _spare(prefix, module, found.keys() - own.keys())
    problems = {
        "missing": [n for n in own.keys() - names.keys() if n.startswith(prefix)],
        "unknown": found.keys() - own.keys() - spare,
        "misshapen": [text for n, text in misshapen.items() if n.startswith(prefix)],
    }
    if any(problems.values()):
        parts = [f"{kind} {shortened(names)}" for kind, names in problems.items() if names]
        raise RequestError(f"{where} does not fit {loader}: {'; '.join(parts)}")
    if spare:
        what = f"tensors that {type(module).__name__} has no use for"
        logger.info("left out %d %s: %s", len(spare), what, shortened(found[n] for n in spare))
    return Matching(
        names={n: old for n, old in names.items() if n not in misshapen},
        fresh=[misshapen.get(n, n) for n in own if n not in names or n in misshapen],
        twice=[(tied[n][0], n) for n in own if n != tied[n][0] and {n, tied[n][0]} <= found.keys()],
    )


def _stock_names(module: nn.Module, names: Collection[str], where: str) -> dict[str, str]:
    """Name a checkpoint's tensors as transformers does when it loads them.

    Returns:
        The checkpoint's name by that name.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming, rename_source_key

    model: Any = module
    own, prefix = module.state_dict(), model.base_model_prefix
    rules = [r for r in get_model_conversion_mapping(model) if isinstance(r, WeightRenaming)]
    found: dict[str, str] = {}
    for name in sorted(names):
        new, _ = rename_source_key(name, rules, [], prefix, own)
        if new not in own:
            new, _ = rename_source_key(name, [], [], prefix, own)
        if new in found:
            raise RequestError(f"{where} holds {new} twice: as {found[new]} and as {name}")
        found[new] = name
    return found


def _tied_names(module: nn.Module) -> dict[str, list[str]]:
    """By the name of each tensor: all names of it, its own among them, the first one first."""
    groups: dict[int, list[str]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        groups.setdefault(id(tensor), []).append(name)
    return {name: group for group in groups.values() for name in group}


def _holder(name: str, tied: list[str], found: Mapping[str, str]) -> str | None:
    """The stored tensor with the values of `name`: its own, or one that it is tied to."""
    return next((found[n] for n in (name, *tied) if n in found), None)


def _spare(prefix: str, module: nn.Module, unknown: Collection[str]) -> set[str]:
    """Which unknown tensors the stock class ignores, or only some other head needs."""
    if not unknown:
        return set()
    import transformers

    model: Any = module
    auto: Any = transformers.AutoModel
    left = SimpleNamespace(missing_keys=set(), unexpected_keys=set(unknown))
    model._adjust_missing_and_unexpected_keys(left)
    with torch.device("meta"):
        whole = auto.from_config(model.config)  # with a pooler, where there can be one
    parts, tensors = dict(whole.named_children()), whole.state_dict()

    def of_the_model(name: str) -> bool:
        inner = name.removeprefix(prefix)
        is_part = name.startswith(prefix) or inner.partition(".")[0] in parts
        return is_part and inner not in tensors

    return {name for name in unknown if name not in left.unexpected_keys or not of_the_model(name)}


def shortened(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return listed(names[:_MOST_LISTED]) + more
