"""Attention of the simulated GPU: torch's own checks and layouts, the CPU's values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.cuda.memory import mapped, on_gpu, on_host

aten = torch.ops.aten


def _attend(
    func: Any, queries: Tensor, keys: Tensor, values: Tensor, *others: Any, **options: Any
) -> Any:
    """Run torch's kernel for its checks and its layout, and fill in the CPU's values."""
    outputs, _, seed, offset = func(queries, keys, values, *others, **options)
    given = mapped(on_host, (queries, keys, values, *others))
    found, sums = _attended(func, *given, **mapped(on_host, options))
    on_host(outputs).copy_(found)
    return outputs, on_gpu(sums), seed, offset


def _attended(
    func: Any,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    *others: Any,
    **options: Any,
) -> Any:
    """The outputs of the CPU's attention, and what its gradients need."""
    named = _named(func, 4, others, options)
    groups = queries.shape[1] // keys.shape[1]
    return aten._scaled_dot_product_flash_attention_for_cpu.default(
        queries,
        *(t.repeat_interleave(groups, 1) for t in (keys, values)),
        is_causal=named["is_causal"],
        attn_mask=mask,
        scale=named["scale"],
    )


def _attend_back(func: Any, *arguments: Any, **options: Any) -> Any:
    """The gradients that the CPU's attention gives."""
    found = _attended_back(func, *mapped(on_host, arguments), **mapped(on_host, options))
    return (*map(on_gpu, found), None)


def _attended_back(func: Any, *arguments: Any, **options: Any) -> Any:
    *given, mask, outputs, sums = arguments[:7]
    named = _named(func, 0, arguments, options)
    return aten._scaled_dot_product_flash_attention_for_cpu_backward.default(
        *given,
        outputs,
        sums,
        0.0,
        named["is_causal"],
        attn_mask=mask,
        scale=named["scale"],
    )


def _named(func: Any, first: int, values: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of an operator from number `first` on, by name."""
    schema = func._schema.arguments
    defaults = {argument.name: argument.default_value for argument in schema}
    names = [argument.name for argument in schema[first:]]
    return {**defaults, **dict(zip(names, values, strict=False)), **options}


ATTEND = {
    aten._scaled_dot_product_efficient_attention.default: _attend,
    aten._scaled_dot_product_efficient_attention_backward.default: _attend_back,
}
ATTENDED = {
    aten._scaled_dot_product_efficient_attention.default: _attended,
    aten._scaled_dot_product_efficient_attention_backward.default: _attended_back,
}
"""The same for tensors of the CPU, without what only a GPU returns."""
