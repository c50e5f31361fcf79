"""Sub-models by slicing inside the layers, the way of slimmable networks and US-Nets.

Slimmable networks: arXiv 1812.08928; US-Nets: arXiv 1903.05134. Every layer holds the whole tensors
of the root and computes with `weight[:out, :in]`. The slices are taken in each forward pass, under
autograd, so that each backward pass makes a gradient of the size of the whole tensor. Normalisation
statistics are a width's own, as in slimmable networks.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from sortednet_cli.families import Inputs
from sortednet_cli.nesting import NestedNetwork, TensorSlice
from sortednet_cli.space import SubModel


class SlicingNetwork:
    """A copy of a nested network's root, whose layers slice its tensors.

    Attributes:
        root: the module that owns the tensors.
    """

    def __init__(self, network: NestedNetwork) -> None:
        self.network = network
        self.root = copy.deepcopy(network.module)
        self.tensors = dict(self.root.named_parameters())

    def at(self, submodel: SubModel) -> nn.Module:
        """The stock module of a sub-model, each of its layers slicing the root's tensors.

        It has no parameters of its own. The sub-model has all of the root's layers.
        """
        module = self.network.standalone(submodel)
        slices = self.network.plan(submodel).slices
        for path, layer in list(module.named_modules()):
            names = [leaf for leaf, _ in layer.named_parameters(recurse=False)]
            if names:
                self._slice(layer, {leaf: slices[f"{path}.{leaf}"] for leaf in names})
        assert not list(module.parameters())
        return module.train()

    def _slice(self, layer: Any, pieces: dict[str, TensorSlice]) -> None:
        """Make parameters of a layer slices of the root's tensors, taken whenever it reads them."""
        for leaf in pieces:
            delattr(layer, leaf)
        reads = {
            leaf: property(_read(self.tensors[piece.source], piece))
            for leaf, piece in pieces.items()
        }
        stock = type(layer)
        layer.__class__ = type(f"Sliced{stock.__name__}", (stock,), reads)


def _read(tensor: Tensor, piece: TensorSlice) -> Any:
    return lambda layer: piece.of(tensor)


def check_equal(network: NestedNetwork, slicing: SlicingNetwork, batch: Inputs) -> None:
    """Assert that both ways compute the same outputs and the same gradients of the root.

    Call it before either is trained.
    """
    for submodel in network.space.submodels:
        views, sliced = network.at(submodel).eval(), slicing.at(submodel).eval()
        network.zero_gradients()
        with network.collecting([submodel]):
            wanted = network.family.forward(views, batch)
            torch.autograd.backward(wanted.float().square().mean())
        slicing.root.zero_grad()
        found = network.family.forward(sliced, batch)
        torch.autograd.backward(found.float().square().mean())
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        for name, gradient in network.gradients.items():
            own = cast(Tensor, slicing.tensors[name].grad)
            torch.testing.assert_close(own, gradient, rtol=1e-3, atol=1e-5)
        network.zero_gradients()
        slicing.root.zero_grad()
