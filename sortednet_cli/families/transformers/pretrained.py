"""Matching of a checkpoint's tensors with a stock class's, and a report of what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from sortednet_cli.errors import RequestError, shortened
from sortednet_cli.logs import logger

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Matching:
    """Which of a checkpoint's tensors belong to which tensors of a root network.

    Attributes:
        names: the stored name of each tensor of the network that the checkpoint has. Tied tensors
            may share one.
        missing: tensors of the head that the checkpoint lacks, or has in another shape, which the
            entry then says.
        stored_twice: pairs of tied tensors that the checkpoint stores separately.
    """

    names: dict[str, str]
    missing: list[str]
    stored_twice: list[tuple[str, str]]


def starting_names(matching: Matching, read: Callable[[str], Tensor], where: str) -> dict[str, str]:
    """Map the root network's tensors to the checkpoint's tensors that initialise them.

    Tensors of a head that the checkpoint lacks keep their fresh weights; the log lists them.

    Args:
        read: reads a tensor of the checkpoint by its name.
        where: the checkpoint's name in messages.

    Raises:
        RequestError: tied tensors are stored with different values.
    """
    stored = matching.names
    for one, other in matching.stored_twice:
        if not torch.equal(read(stored[one]), read(stored[other])):
            raise RequestError(
                f"{where} holds different values for {one} and {other}, which its configuration"
                " ties: set model.config.tie_word_embeddings = false to keep both"
            )
    if matching.missing:
        names = shortened(sorted(matching.missing))
        logger.info("fresh weights, not in the checkpoint: %s", names)
    return stored


def match_names(base: str, loader: str, module: nn.Module, shapes: Shapes, where: str) -> Matching:
    """Match a checkpoint's tensors with those of the root network.

    Names are read as transformers reads them: old names are converted, and a checkpoint may hold
    the model with or without a head. Tensors that the stock class ignores, and those of another
    head, are left out; the log lists them.

    Args:
        base: the attribute that holds the model without its head.
        loader: the stock class, for messages.
        module: the root network; only its names and shapes are used.
        shapes: the shapes of the checkpoint's tensors by name.
        where: the checkpoint's name in messages.

    Raises:
        RequestError: tensors of the model itself are missing, unknown or misshapen.
    """
    own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    prefix = f"{base}."
    stored = _stock_names(module, shapes, where)
    tied = _tied_names(module)
    names = {n: old for n in own if (old := _stored_name(n, tied[n], stored)) is not None}
    wrong = [n for n, old in names.items() if own[n] != shapes[old]]
    misshapen = {n: f"{n} {list(shapes[names[n]])} for {list(own[n])}" for n in wrong}
    unused = _unused(prefix, module, stored.keys() - own.keys())
    problems = {
        "missing": [n for n in own.keys() - names.keys() if n.startswith(prefix)],
        "unknown": [*(stored.keys() - own.keys() - unused)],
        "misshapen": [text for n, text in misshapen.items() if n.startswith(prefix)],
    }
    _refuse(problems, f"{where} does not fit {loader}")
    _log_unused([stored[n] for n in unused], type(module).__name__)
    return Matching(
        names={n: old for n, old in names.items() if n not in misshapen},
        missing=[misshapen.get(n, n) for n in own if n not in names or n in misshapen],
        stored_twice=[
            (tied[n][0], n) for n in own if n != tied[n][0] and {n, tied[n][0]} <= stored.keys()
        ],
    )


def _log_unused(names: list[str], class_name: str) -> None:
    if names:
        text = shortened(sorted(names))
        count = f"{len(names)} tensor{'s' if len(names) > 1 else ''}"
        logger.info("left out %s that %s does not use: %s", count, class_name, text)


def _refuse(problems: Mapping[str, list[str]], message: str) -> None:
    """RequestError if there are any problems, with the first names of each kind."""
    parts = [f"{kind} {shortened(sorted(names))}" for kind, names in problems.items() if names]
    if parts:
        raise RequestError(f"{message}: {'; '.join(parts)}")


def _stock_names(module: nn.Module, names: Collection[str], where: str) -> dict[str, str]:
    """Map the name that transformers gives each tensor on loading to the checkpoint's name.

    Raises:
        RequestError: two tensors of the checkpoint get the same name.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming, rename_source_key

    model: Any = module
    own, prefix = module.state_dict(), model.base_model_prefix
    rules = [r for r in get_model_conversion_mapping(model) if isinstance(r, WeightRenaming)]
    stored: dict[str, str] = {}
    for name in sorted(names):
        new, _ = rename_source_key(name, rules, [], prefix, own)
        if new not in own:
            new, _ = rename_source_key(name, [], [], prefix, own)
        if new in stored:
            raise RequestError(f"{where} holds {new} twice: as {stored[new]} and as {name}")
        stored[new] = name
    return stored


def _tied_names(module: nn.Module) -> dict[str, list[str]]:
    """Map each tensor's name to all names of that tensor, in order and including its own."""
    groups: dict[int, list[str]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        groups.setdefault(id(tensor), []).append(name)
    return {name: group for group in groups.values() for name in group}


def _stored_name(name: str, tied: list[str], stored: Mapping[str, str]) -> str | None:
    """Return the stored name of a tensor, or of a tensor that it is tied to; None if absent."""
    return next((stored[n] for n in (name, *tied) if n in stored), None)


def _unused(prefix: str, module: nn.Module, unknown: Collection[str]) -> set[str]:
    """Return the unknown tensors that the stock class ignores, or that belong to another head."""
    if not unknown:
        return set()
    import transformers

    model: Any = module
    auto: Any = transformers.AutoModel
    keys = SimpleNamespace(missing_keys=set(), unexpected_keys=set(unknown))
    model._adjust_missing_and_unexpected_keys(keys)
    with torch.device("meta"):
        base_model = auto.from_config(model.config)  # has a pooler if the architecture has one
    parts, tensors = dict(base_model.named_children()), base_model.state_dict()

    def belongs_to_model(name: str) -> bool:
        inner = name.removeprefix(prefix)
        is_part = name.startswith(prefix) or inner.partition(".")[0] in parts
        return is_part and inner not in tensors

    return {n for n in unknown if n not in keys.unexpected_keys or not belongs_to_model(n)}
