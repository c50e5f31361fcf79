"""Declarations of transformers' architectures: what their shapes cannot tell."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sortednet_cli.families.transformers import ARCHITECTURES
from sortednet_cli.families.transformers.family import TransformerFamily
from sortednet_cli.families.transformers.roles import roles_of
from sortednet_cli.nesting import check_fused, plan_from_root
from sortednet_cli.space import SubModel
from tests.pico import STOCK_PICOS, Pico

OUTPUTS = ("o_proj", "down_proj", "out_lin", "lin2", "c_proj", "Wo", "fc2", "output.dense")
"""Weights that take what heads or neurons give."""

# Three times 4 heads of size 4; then 24 and 24 neurons.
EQUAL, GATES = [*range(8), *range(16, 24), *range(32, 40)], [*range(12), *range(24, 36)]

FIRST = {
    "modernbert_masked": [
        ("model.layers.2.attn.Wqkv.weight", 0, EQUAL),
        ("model.layers.2.mlp.Wi.weight", 0, GATES),
    ],
    "gpt2": [
        ("transformer.h.2.attn.c_attn.weight", 1, EQUAL),
        ("transformer.h.2.attn.c_attn.bias", 0, EQUAL),
    ],
    # 8, 4 and 4 heads of size 4.
    "phi3": [
        (
            "model.layers.2.self_attn.qkv_proj.weight",
            0,
            [*range(16), *range(32, 40), *range(48, 56)],
        ),
        ("model.layers.2.mlp.gate_up_proj.weight", 0, GATES),
    ],
}
"""Fused tensors, the dimension of their parts, and the entries that width 0.5 keeps."""

FAMILIES = {str(pico.model["family"]): pico for pico in reversed(STOCK_PICOS.values())}


def test_every_architecture_is_held_to_the_laws() -> None:
    used = {str(pico.family().root.config["model_type"]) for pico in STOCK_PICOS.values()}
    assert used == {architecture.name for architecture in ARCHITECTURES}


@pytest.mark.parametrize("name", FIRST)
def test_each_part_of_a_fused_tensor_is_cut(name: str) -> None:
    network = STOCK_PICOS[name].network(training=False)
    for path, dim, _ in FIRST[name]:
        tensor = network.module.get_parameter(path)
        numbers = torch.arange(tensor.shape[dim], dtype=torch.float32)
        tensor.data.copy_(numbers if dim == tensor.dim() - 1 else numbers[:, None])
    alone = network.standalone(SubModel.of({"width": 0.5, "depth": 3}))
    for path, dim, kept in FIRST[name]:
        found = alone.get_parameter(path).transpose(0, dim)
        assert found.reshape(len(kept), -1)[:, 0].tolist() == kept


def test_key_and_value_of_cross_attention_are_cut_each() -> None:
    pico = STOCK_PICOS["gpt2"]
    config = {**pico.model["config"], "add_cross_attention": True}
    family = replace(pico, model={**pico.model, "config": config}).family()
    slices = plan_from_root(family, SubModel.of({"width": 0.5, "depth": 3})).slices
    path = "transformer.h.2.crossattention.c_attn"
    assert str(slices[f"{path}.weight"]) == f"{path}.weight[:8, :8|16:24]"
    assert str(slices[f"{path}.bias"]) == f"{path}.bias[:8|16:24]"


@pytest.mark.parametrize("name", sorted(STOCK_PICOS))
def test_nothing_looks_fused_that_is_not_declared(name: str) -> None:
    check_fused(STOCK_PICOS[name].family(), STOCK_PICOS[name].search_space)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@torch.no_grad()
def test_the_first_heads_and_neurons_are_those_of_the_root(family: str) -> None:
    """A root whose other heads and neurons give nothing has the function of a half of it."""
    pico = FAMILIES[family]
    made = pico.family()
    assert isinstance(made, TransformerFamily)
    axes = [axis for axis in ("heads", "ffn") if axis in made.facts.axes]
    if family == "olmo2":  # its norm of queries looks at all heads
        axes.remove("heads")
    network = Pico(pico.model, {axis: [0.5, 1.0] for axis in axes}, task=pico.task).network()
    num_zeroed = 0
    for name, parameter in network.module.named_parameters():
        parameter.add_(torch.randn_like(parameter) * 0.2)
        if parameter.dim() == 2 and any(word in name for word in OUTPUTS):
            for dim, role in enumerate(roles_of(name, made.architecture.roles)):
                if role in axes:
                    parameter.transpose(0, dim)[parameter.shape[dim] // 2 :] = 0
                    num_zeroed += 1
    assert num_zeroed == made.num_alike_layers * len(axes)
    found = pico.run(network.at(**dict.fromkeys(axes, 0.5)).eval())
    torch.testing.assert_close(found, pico.run(network.module.eval()), rtol=1e-4, atol=1e-5)
