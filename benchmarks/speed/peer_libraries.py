"""Other libraries that train nested networks, each as it is used for one width at a time.

They are optional:

    pip install --no-deps ofa
    pip install --no-deps whittle==0.6.0 litgpt==0.5.12
    pip install lightning jsonargparse==4.41 psutil

The requirements that whittle and litgpt state, transformers below 4.54 and huggingface-hub below
0.35, contradict this project's, hence `--no-deps`. Their networks run without these two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

WIDTHS = (1.0, 0.5, 0.25)


@dataclass(frozen=True)
class SuperNetwork:
    """A library's network that holds all widths.

    Attributes:
        select: makes one width the active one, as a training does before each update.
        extract: a network of the active width alone, as the library cuts it out.
    """

    module: nn.Module
    select: Callable[[float], object]
    extract: Callable[[], nn.Module]


@dataclass(frozen=True)
class Library:
    """A network of another library.

    Attributes:
        name: of the network, as its library calls it.
        packages: what it needs, the first of which names the library.
        beside: the case of this project that has the like network and the same batches.
        make: builds the network; raises ImportError if a package is missing.
    """

    name: str
    packages: tuple[str, ...]
    beside: str
    make: Callable[[], SuperNetwork]

    def versions(self) -> dict[str, str]:
        return {package: version(package) for package in self.packages}


def _ofa_resnets() -> SuperNetwork:
    """OFAResNets with 3, 3, 5 and 3 blocks, whose stages and stem have three widths."""
    networks = import_module("ofa.imagenet_classification.elastic_nn.networks")
    widths = sorted(WIDTHS)
    net = networks.OFAResNets(
        n_classes=1000, depth_list=[1], expand_ratio_list=[0.25], width_mult_list=list(widths)
    )

    def select(width: float) -> None:
        net.set_active_subnet(d=1, e=0.25, w=widths.index(width))

    return SuperNetwork(net, select, net.get_active_subnet)


def _ofa_mobilenet_v3() -> SuperNetwork:
    """OFAMobileNetV3, whose widths are the expansions 6, 3 and 1.5 inside its blocks."""
    networks = import_module("ofa.imagenet_classification.elastic_nn.networks")
    expansions = [6 * width for width in sorted(WIDTHS)]
    net = networks.OFAMobileNetV3(
        n_classes=10, dropout_rate=0, ks_list=[3], expand_ratio_list=expansions, depth_list=[4]
    )

    def select(width: float) -> None:
        net.set_active_subnet(ks=3, e=6 * width, d=4)

    return SuperNetwork(net, select, net.get_active_subnet)


def _whittle_gpt() -> SuperNetwork:
    """A LLaMA of the sizes of `LLAMA` in benchmarks/speed/peers.py."""
    gpt = import_module("whittle.models.gpt")
    extract = import_module("whittle.models.gpt.extract").extract_current_sub_network
    hidden, heads, inner, layers = 384, 8, 1152, 8
    config = gpt.Config(
        n_layer=layers,
        n_embd=hidden,
        n_head=heads,
        n_query_groups=heads,
        head_size=hidden // heads,
        intermediate_size=inner,
        padded_vocab_size=2048,
        block_size=384,
        bias=False,
        parallel_residual=False,
        rotary_percentage=1.0,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
    )
    net = gpt.GPT(config)

    def select(width: float) -> None:
        net.set_sub_network(
            sub_network_n_embd=int(hidden * width),
            sub_network_num_heads=int(heads * width),
            sub_network_intermediate_size=int(inner * width),
            sub_network_n_layers=layers,
        )

    return SuperNetwork(net, select, lambda: extract(net))


LIBRARIES = (
    Library("OFAResNets", ("ofa",), "ResNet-50", _ofa_resnets),
    Library("OFAMobileNetV3", ("ofa",), "MobileNetV2", _ofa_mobilenet_v3),
    Library("GPT", ("whittle", "litgpt"), "LLaMA", _whittle_gpt),
)


@torch.no_grad()
def check_extracted(network: SuperNetwork, extracted: nn.Module, inputs: Any) -> None:
    """Assert that the active width and the network cut out of it compute the same."""
    wanted = network.module.eval()(inputs)
    torch.testing.assert_close(extracted.eval()(inputs), wanted, rtol=1e-4, atol=1e-4)
    network.module.train()
    extracted.train()
