"""Channels of a convolutional network that must keep one order, found by following them.

A residual stream couples the outputs of all layers that add to it with the inputs of all that read
it. If every tensor that has such channels is permuted alike, the function of the network stays.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from sortednet_cli.errors import RequestError
from sortednet_cli.families.activations import mean_inputs

_LEAVES = (_ConvNd, nn.Linear, _NormBase, nn.LayerNorm, nn.GroupNorm)

_KEEPING = {
    *(F.relu, F.relu6, F.hardtanh, F.silu, F.gelu, F.hardswish, F.hardsigmoid, F.dropout),
    *(F.adaptive_avg_pool2d, F.avg_pool2d, F.max_pool2d, torch.relu, torch.sigmoid),
    *("contiguous", "relu", "sigmoid", "clone"),
}
"""Functions and methods that work on every channel by itself."""

_JOINING = {operator.add, operator.iadd, operator.mul, operator.imul, torch.add, torch.mul} | {
    *("add", "add_", "mul", "mul_")
}
"""Functions of two tensors whose channels must agree."""


@dataclass(eq=False)
class Channels:
    """Channels that have one order.

    Attributes:
        inputs: names of the weights that read them, each with the dimension that counts them.
        holders: names of all tensors that have them, each with the dimension.
        fixed: whether the order must stay: of images, of classes, or of groups.
    """

    inputs: list[tuple[str, int]] = field(default_factory=list)
    holders: list[tuple[str, int]] = field(default_factory=list)
    fixed: bool = False


@torch.no_grad()
def coupled_channels(module: nn.Module, inputs: Tensor) -> list[Channels]:
    """Follow the channels of a network from its inputs to its outputs.

    Args:
        module: a network of convolutions, norms and linear layers.
        inputs: images [B, C, H, W].

    Raises:
        RequestError: an operation may mix channels in a way that is not known.
    """
    try:
        graph = _Tracer().trace(module)
    except Exception as error:  # a module's own code, with values that only stand for tensors
        raise RequestError(
            f"model.reorder: the channels of {type(module).__name__} cannot be followed: its"
            " forward pass depends on values"
        ) from error
    follower = _Follower(fx.GraphModule(module, graph))
    follower.run(inputs.to(next(module.parameters()).device))
    return follower.found()


@torch.no_grad()
def reorder_channels(
    module: nn.Module, batches: Sequence[Tensor], *, by_activation: bool = False
) -> None:
    """Put the most important channels first, in every tensor that has them.

    A channel's importance is the L1 norm of the weights that read it, as in Once-for-all
    (arXiv 1908.09791), or the mean of its absolute values where it is read.

    Args:
        module: the root network, changed in place.
        batches: images [B, C, H, W]; weights need one batch.

    Raises:
        RequestError: as `coupled_channels`.
    """
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    groups = [c for c in coupled_channels(module.eval(), batches[0][:1]) if c.inputs]
    groups = [channels for channels in groups if not channels.fixed]
    if by_activation:
        paths = {_layer(name) for channels in groups for name, _ in channels.inputs}
        dims = {p: 1 if isinstance(module.get_submodule(p), _ConvNd) else -1 for p in paths}
        means = mean_inputs(module, lambda network, images: network(images), batches, dims)
        scores = [[means[_layer(name)] for name, _ in c.inputs] for c in groups]
    else:
        scores = [[_norms(tensors[name], dim) for name, dim in c.inputs] for c in groups]
    for channels, found in zip(groups, scores, strict=True):
        order = torch.stack(found).sum(0).argsort(descending=True, stable=True)
        for name, dim in channels.holders:
            tensors[name].copy_(tensors[name].index_select(dim, order))


def _layer(weight: str) -> str:
    return weight.rpartition(".")[0]


def _norms(weight: Tensor, dim: int) -> Tensor:
    others = [d for d in range(weight.dim()) if d != dim]
    return weight.abs().sum(others)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _LEAVES) or super().is_leaf_module(m, module_qualified_name)


class _Follower(fx.Interpreter):
    """Runs a graph, and notes for each value its channels and the dimension that counts them."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self._of: dict[fx.Node, tuple[Channels, int]] = {}
        self._same: dict[Channels, Channels] = {}
        self._shapes: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self._shapes[n] = tuple(result.shape)
        if isinstance(result, Tensor) or n.op == "output":
            self._follow(n, result)
        return result

    def found(self) -> list[Channels]:
        """Merge what belongs together."""
        merged: dict[Channels, Channels] = {}
        for channels in self._same:
            root = self._root(channels)
            whole = merged.setdefault(root, Channels())
            whole.inputs += channels.inputs
            whole.holders += channels.holders
            whole.fixed |= channels.fixed
        for whole in merged.values():  # a layer may run twice
            whole.inputs, whole.holders = (
                list(dict.fromkeys(names)) for names in (whole.inputs, whole.holders)
            )
        return list(merged.values())

    def _follow(self, node: fx.Node, result: Any) -> None:
        if node.op == "placeholder":
            self._of[node] = self._new(fixed=True), 1
        elif node.op == "output":
            for each in node.all_input_nodes:
                self._of[each][0].fixed = True
        elif node.op == "get_attr":
            self._attribute(node, result)
        elif node.op == "call_module":
            self._module(node, self.fetch_attr(str(node.target)))
        else:
            self._function(node, result)

    def _module(self, node: fx.Node, layer: nn.Module) -> None:
        name, (channels, dim) = str(node.target), self._of[node.all_input_nodes[0]]
        if isinstance(layer, _ConvNd):
            self._convolution(node, layer, name, channels)
        elif isinstance(layer, nn.Linear):
            if dim != self._dims(node.all_input_nodes[0]) - 1:
                self._refuse(node)
            self._reads(channels, f"{name}.weight", 1)
            self._makes(node, layer, name, dim)
        else:
            # Each parameter and buffer has one value for each channel, or none at all.
            channels.fixed |= isinstance(layer, nn.GroupNorm) and layer.num_groups > 1
            for own, tensor in (*layer.named_parameters(), *layer.named_buffers()):
                if tensor.dim() > 1:
                    self._refuse(node)
                channels.holders += [(f"{name}.{own}", 0)] if tensor.dim() else []
            self._flattened(node, channels, dim)

    def _convolution(self, node: fx.Node, layer: _ConvNd, name: str, channels: Channels) -> None:
        if layer.groups == layer.in_channels == layer.out_channels > 1:
            own = [own for own, _ in layer.named_parameters()]
            channels.holders += [(f"{name}.{each}", 0) for each in own]
            self._of[node] = channels, 1
            return
        if layer.groups > 1:
            channels.fixed = True
        else:
            self._reads(channels, f"{name}.weight", 1)
        self._makes(node, layer, name, 1)
        self._of[node][0].fixed |= layer.groups > 1

    def _reads(self, channels: Channels, name: str, dim: int) -> None:
        channels.inputs.append((name, dim))
        channels.holders.append((name, dim))

    def _makes(self, node: fx.Node, layer: nn.Module, name: str, dim: int) -> None:
        made = self._new()
        made.holders += [(f"{name}.{own}", 0) for own, _ in layer.named_parameters()]
        self._of[node] = made, dim

    def _attribute(self, node: fx.Node, tensor: Tensor) -> None:
        """A tensor that the module's own code uses: one value for each channel."""
        channels = self._new(fixed=sum(size > 1 for size in tensor.shape) > 1)
        dim = max(range(tensor.dim()), key=lambda d: tensor.shape[d], default=0)
        channels.holders.append((str(node.target), dim))
        self._of[node] = channels, dim

    def _function(self, node: fx.Node, result: Tensor) -> None:
        sources = [each for each in node.all_input_nodes if each in self._of]
        if not sources:
            self._refuse(node)
        channels, dim = self._of[sources[0]]
        if node.target in _JOINING:
            for other in sources[1:]:
                channels = self._join(channels, self._of[other][0])
            self._of[node] = channels, dim
        elif node.target in _KEEPING:
            self._of[node] = channels, dim
        elif node.target in ("mean", torch.mean):
            self._averaged(node, channels, dim)
        elif node.target in ("reshape", "view"):
            # Only of a tensor that has one value for each channel.
            sizes = list(result.shape)
            if max(sizes) != result.numel() or max(self._shape(sources[0])) != result.numel():
                self._refuse(node)
            self._of[node] = channels, sizes.index(max(sizes))
        elif node.target in ("flatten", torch.flatten):
            self._flattened(node, channels, dim)
        elif node.target in ("permute", torch.permute):
            order = node.args[1] if isinstance(node.args[1], tuple | list) else node.args[1:]
            self._of[node] = channels, list(cast(Iterable[int], order)).index(dim)
        elif node.target is operator.getitem:
            self._sliced(node, channels, dim, result)
        else:
            self._refuse(node)

    def _averaged(self, node: fx.Node, channels: Channels, dim: int) -> None:
        """A mean over positions."""
        source = node.all_input_nodes[0]
        given = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", ())
        over = [given] if isinstance(given, int) else list(cast(Iterable[int], given))
        over = [each % self._dims(source) for each in over]
        if not over or dim in over:
            self._refuse(node)
        same = self._dims(source) == self._dims(node)
        self._of[node] = channels, dim if same else dim - sum(each < dim for each in over)

    def _sliced(self, node: fx.Node, channels: Channels, dim: int, result: Tensor) -> None:
        """A slice of positions; one of channels would part them."""
        source = node.all_input_nodes[0]
        if self._shape(source)[dim] != result.shape[dim] or self._dims(source) != result.dim():
            self._refuse(node)
        self._of[node] = channels, dim

    def _flattened(self, node: fx.Node, channels: Channels, dim: int) -> None:
        """Positions that are joined with channels must be one, so that channels stay in order."""
        before, after = self._shape(node.all_input_nodes[0]), self._shape(node)
        if len(after) == len(before):
            self._of[node] = channels, dim
        elif dim == 1 and after == (before[0], before[1]):
            self._of[node] = channels, 1
        else:
            self._refuse(node)

    def _new(self, fixed: bool = False) -> Channels:
        channels = Channels(fixed=fixed)
        self._same[channels] = channels
        return channels

    def _root(self, channels: Channels) -> Channels:
        while self._same[channels] is not channels:
            channels = self._same[channels]
        return channels

    def _join(self, one: Channels, other: Channels) -> Channels:
        self._same[self._root(other)] = self._root(one)
        return one

    def _shape(self, node: fx.Node) -> tuple[int, ...]:
        return self._shapes[node]

    def _dims(self, node: fx.Node) -> int:
        return len(self._shape(node))

    def _refuse(self, node: fx.Node) -> Any:
        raise RequestError(
            f"model.reorder: the channels of the network cannot be followed through {node.target}"
        )
