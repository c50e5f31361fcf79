"""Fused tensors: each part is cut, never the whole; and what looks fused must be declared."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sortednet_cli.errors import RequestError
from sortednet_cli.nesting import TensorSlice, check_fused, plan_from_root
from sortednet_cli.space import SubModel
from tests.pico import PICOS, Pico

FUSED = ("fused_equal", "fused_uneven")


def _heads(tensor: Tensor, keys: int, kept: int) -> Tensor:
    """The first heads of query, key and value, four rows each, written out by hand."""
    ratio = 8 // keys
    query, key, value = tensor.split([4 * 8, 4 * keys, 4 * keys])
    return torch.cat([query[: 4 * kept], key[: 4 * kept // ratio], value[: 4 * kept // ratio]])


@pytest.mark.parametrize(("name", "keys"), [("fused_equal", 8), ("fused_uneven", 4)])
def test_first_heads_are_the_first_heads_of_the_root(name: str, keys: int) -> None:
    network = PICOS[name].network()
    root = dict(network.module.named_parameters())
    alone = network.standalone(SubModel.of({"width": 0.5, "depth": 2}))
    for block in ("blocks.0", "blocks.1"):
        path = f"{block}.attention.qkv"
        expected = _heads(root[f"{path}.weight"], keys, 4)[:, :16]
        assert torch.equal(alone.state_dict()[f"{path}.weight"], expected)
        expected = _heads(root[f"{path}.bias"], keys, 4)
        assert torch.equal(alone.state_dict()[f"{path}.bias"], expected)
        both = root[f"{block}.gate.both"]
        expected = torch.cat([both[:16, :32], both[:16, 64:96]], dim=1)
        assert torch.equal(alone.state_dict()[f"{block}.gate.both"], expected)


@pytest.mark.parametrize("name", FUSED)
def test_a_root_with_zeros_elsewhere_computes_what_its_first_heads_do(name: str) -> None:
    """By function: a sub-model sees nothing but the heads and units that it has."""
    pico = PICOS[name]
    network = pico.network()
    small = SubModel.of({"width": 0.5, "depth": 3})
    expected = pico.run(network.standalone(small))
    with torch.no_grad():
        for source, parameter in network.parameters.items():
            pieces = [p for p in network.plan(small).slices.values() if p.source == source]
            parameter[~pieces[0].mask(parameter.shape)] = float("nan")
    assert torch.equal(pico.run(network.at(small).eval()), expected)


def test_parts_of_one_size_are_one_view() -> None:
    """So that a pass copies them at once, and a gradient is added by one operation."""
    tensor = torch.arange(24.0).view(12, 2)
    equal = TensorSlice("qkv", (((0, 2), (4, 6), (8, 10)), ((0, 1),)))
    (view,) = equal.views(tensor)
    assert view.shape == (3, 2, 1)
    assert view.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
    assert equal.of(tensor).flatten().tolist() == [0, 2, 8, 10, 16, 18]
    uneven = TensorSlice("qkv", (((0, 4), (8, 9), (10, 11)), ((0, 2),)))
    assert [len(view) for view in uneven.views(tensor)] == [4, 1, 1]
    assert uneven.of(tensor)[:, 0].tolist() == [0, 2, 4, 6, 16, 20]
    assert str(uneven) == "qkv[:4|8:9|10:11, :2]"
    both = TensorSlice("x", (((0, 1), (6, 7)), ((0, 1), (1, 2))))
    assert both.of(tensor).tolist() == [[0, 1], [12, 13]]


@pytest.mark.parametrize("name", FUSED)
def test_a_whole_part_is_no_copy(name: str) -> None:
    """A sub-model of full width has the root's own tensors."""
    network = PICOS[name].network()
    module = network.at(width=1.0, depth=1)
    assert module.blocks[0].attention.qkv.weight.data_ptr() == (  # type: ignore[index, union-attr]
        network.parameters["blocks.0.attention.qkv.weight"].data_ptr()
    )
    assert plan_from_root(network.family, SubModel.of({"depth": 2})).slices[
        "blocks.0.attention.qkv.weight"
    ] == TensorSlice.leading(
        "blocks.0.attention.qkv.weight",
        network.parameters["blocks.0.attention.qkv.weight"].shape,
    )


def _with(pico: Pico, **changes: Any) -> Pico:
    return replace(pico, model={**pico.model, **changes})


@pytest.mark.parametrize("name", [name for name in PICOS if not PICOS[name].is_text])
def test_nothing_else_looks_fused(name: str) -> None:
    check_fused(PICOS[name].family(), PICOS[name].search_space)


def encoder(width: int, num_classes: int) -> nn.Module:
    layer = nn.TransformerEncoderLayer(width, 2, 2 * width, batch_first=True)
    stem = nn.Sequential(nn.Flatten(2), nn.Linear(64, width))
    return nn.Sequential(stem, nn.TransformerEncoder(layer, 2), nn.Linear(width, num_classes))


def grouped(width: int, num_classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 1), nn.Conv2d(width, width, 3, groups=4), nn.Conv2d(width, 5, 1)
    )


def _plain(factory: str) -> Pico:
    """A custom model without blocks, and without a declaration of what is fused."""
    model = {
        "family": "custom",
        "factory": f"{__name__}:{factory}",
        "axes": {"width": {"scales": ["width"]}},
        "config": {"width": 16, "num_classes": 5},
        "fused": {},
    }
    return Pico(model, {"width": [0.5, 1.0]})


@pytest.mark.parametrize(
    ("pico", "tensor", "pattern", "declaration"),
    [
        (
            _with(PICOS["fused_equal"], fused={"*.both": {"parts": 2, "dim": 1}}),
            "blocks.0.attention.qkv.weight [96, 32]",
            "blocks.*.attention.qkv",
            "3",
        ),
        (
            _with(PICOS["fused_equal"], fused={"*.qkv": 3}),
            "blocks.0.gate.both [32, 128]",
            "blocks.*.gate.both",
            "{ parts = 2, dim = 1 }",
        ),
        (
            _plain("encoder"),
            "1.layers.0.self_attn.in_proj_weight [48, 16]",
            "1.layers.*.self_attn.in_proj_*",
            "3",
        ),
        (_plain("grouped"), "1.weight [16, 4, 3, 3]", "1", "4"),
    ],
)
def test_what_looks_fused_must_be_declared(
    pico: Pico, tensor: str, pattern: str, declaration: str
) -> None:
    with pytest.raises(RequestError) as refused:
        check_fused(pico.family(), pico.search_space)
    assert f"{tensor} looks fused" in str(refused.value)
    assert f"'{pattern}' = {declaration};" in str(refused.value)
    (given,) = tomllib.loads(f"fused = {declaration}").values()
    declared = {**pico.model["fused"], pattern: given}
    check_fused(_with(pico, fused=declared).family(), pico.search_space)


@pytest.mark.parametrize(
    ("pico", "pattern", "parts", "bias"),
    [
        (PICOS["fused_uneven"], "*.qkv.weight", [2, 1, 1], "blocks.0.attention.qkv.bias"),
        (_plain("encoder"), "*.in_proj_weight", 3, "1.layers.0.self_attn.in_proj_bias"),
        (_plain("grouped"), "1.weight", 4, "1.bias"),
    ],
)
def test_the_bias_of_a_fused_weight_is_fused_too(
    pico: Pico, pattern: str, parts: int | list[int], bias: str
) -> None:
    declared = {"*.both": {"parts": 2, "dim": 1}} if "both" in str(pico.model["fused"]) else {}
    alone = _with(pico, fused={**declared, pattern: parts})
    with pytest.raises(RequestError) as refused:
        check_fused(alone.family(), pico.search_space)
    weight = bias.removesuffix("bias") + "weight"
    assert f"{bias} [" in str(refused.value)
    assert f"looks fused: {weight} is." in str(refused.value)
    assert f"= {parts}; if" in str(refused.value)


def test_parts_must_be_whole() -> None:
    pico = _with(PICOS["fused_equal"], fused={"*.qkv": 5, "*.both": 1})
    with pytest.raises(
        RequestError, match=r"qkv.weight: 96 entries cannot be divided into 5 equal"
    ):
        plan_from_root(pico.family(), pico.search_space.smallest)


def test_a_declaration_must_match_something() -> None:
    pico = _with(PICOS["fused_equal"], fused={"*.qvk": 3, "*.both": 1})
    with pytest.raises(RequestError, match=r"'\*.qvk' matches no tensor and no module"):
        check_fused(pico.family(), pico.search_space)
