"""The family of all architectures of transformers, shrunk by their stock configurations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from sortednet_cli.errors import RequestError, WorkError, listed
from sortednet_cli.families.activations import mean_inputs
from sortednet_cli.families.base import Family
from sortednet_cli.families.fused import Fused
from sortednet_cli.families.root import Config, Root, check_blocks, entry
from sortednet_cli.families.shared import Inputs, SharedPass
from sortednet_cli.families.transformers.architecture import LOADERS, Architecture
from sortednet_cli.families.transformers.complete import check_entries, class_of, complete_config
from sortednet_cli.families.transformers.logits import ImageLogits, TextLogits, all_inputs
from sortednet_cli.families.transformers.looks import without_looks
from sortednet_cli.families.transformers.prefix_pass import PrefixPass, named_inputs
from sortednet_cli.families.transformers.pretrained import Matching, match_names, starting_names
from sortednet_cli.families.transformers.reorder import reading_layers, reorder_by_importance
from sortednet_cli.families.transformers.stock_configs import refusals_of
from sortednet_cli.space import SubModel, kept_blocks
from sortednet_cli.spec import ModelSpec
from sortednet_cli.spec.families import family_facts

_MOST_LISTED = 16

_TOKENIZER_CARD = """
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
"""


class TransformerFamily(Family):
    """Width scales hidden size, heads and FFN together; depth keeps the first layers."""

    library = "transformers"
    shares_depths = True
    refusals = (*Family.refusals, AssertionError, KeyError)

    def __init__(self, root: Root) -> None:
        super().__init__(root)
        family = family_facts(root.family)
        assert isinstance(family, Architecture)
        self.architecture = family.member(root.config.get("model_type"))
        name = class_of(root.config)
        heads = self.architecture.heads
        task = next((task for task, head in heads.items() if head.class_name == name), None)
        if task is None:
            legal = listed(dict.fromkeys(head.class_name for head in heads.values()))
            raise RequestError(f"architectures: {name!r} is none of {legal}")
        self.head = heads[task]
        self.shares_buffers = not self.architecture.buffers_follow_sizes
        check_entries(root.config)
        check_blocks([entry(root.config, self.architecture.layer_count, int)])
        self._auto_class = LOADERS[self.architecture.inputs, task]
        self.loader = f"transformers.{self._auto_class}"
        self.card = (
            f"from transformers import {self._auto_class}\n\n"
            f"model = {self._auto_class}.from_pretrained(folder)\n"
        )
        self.hub_card = f'{self._auto_class}.from_pretrained("user/name")'
        if self.architecture.inputs == "text":
            self.tokenizer_card = _TOKENIZER_CARD

    @classmethod
    def complete_config(
        cls,
        model: ModelSpec,
        task: str,
        facts: Mapping[str, Any],
        stock: Mapping[str, Any] | None = None,
    ) -> Config:
        return complete_config(model.family, task, model.config, facts, stock)

    @property
    def fused(self) -> Mapping[str, Fused]:
        return self.architecture.fused_tensors(self.root.config)

    @property
    def num_alike_layers(self) -> int:
        return int(self.root.config[self.architecture.layer_count])

    def state_channels(self, config: Config) -> int:
        (hidden_size,) = self.architecture.scales["hidden"]
        return int(config[hidden_size])

    def layers(self, module: nn.Module) -> Sequence[nn.Module]:
        return list(cast(nn.ModuleList, module.get_submodule(self.architecture.layers)))

    def construct(self, config: Config) -> nn.Module:
        import transformers

        with refusals_of(self.architecture.name, "model.config"):
            stock = transformers.AutoConfig.for_model(**config)
        return cast(nn.Module, getattr(transformers, self.head.class_name)(stock))

    def shrink(self, submodel: SubModel) -> Config:
        config = dict(self.root.config)
        for axis, value in submodel.values:
            if axis == "depth":
                config[self.architecture.layer_count] = self._depth(submodel)
            else:
                self._scale(config, axis, float(value))
        for key in self.architecture.layer_lists:
            if config.get(key):
                config[key] = config[key][: config[self.architecture.layer_count]]
        return config

    def module_map(self, submodel: SubModel) -> dict[str, str | None]:
        layers = [f"{self.architecture.layers}.{i}" for i in range(self._depth(submodel))]
        return {path: path for path in (*self.architecture.parts, *self.head.parts, *layers)}

    def forward(self, module: nn.Module, inputs: Inputs) -> Tensor:
        with without_looks(module.get_submodule(self.architecture.base)):
            output = module(**named_inputs(inputs), return_dict=True)
        return cast(Tensor, output.logits)

    def logits_module(self, module: nn.Module) -> nn.Module:
        if self.architecture.inputs == "image":
            return ImageLogits(module, self.forward).eval()
        config = self.root.config
        positions = config.get(self.architecture.position_count)
        if positions is not None:
            positions -= self.architecture.first_position(config.get("pad_token_id") or 0)
        return TextLogits(module, self.forward, positions).eval()

    def logits_inputs(self, inputs: Inputs) -> Inputs:
        if isinstance(inputs, Tensor):
            return inputs
        # Only a model with an embedding for the second text of a pair tells it from the first.
        return all_inputs(inputs, self.root.config.get("type_vocab_size", 0) > 1)

    def shared_pass(
        self, submodels: Sequence[SubModel], at: Callable[[SubModel], nn.Module]
    ) -> SharedPass:
        depths = [self._depth(submodel) for submodel in submodels]
        return PrefixPass(at(submodels[0]), depths, self.architecture, self.head)

    def compiled_parts(self, submodel: SubModel, module: nn.Module) -> list[nn.Module]:
        return list(self.layers(module))

    def match_names(
        self, module: nn.Module, shapes: Mapping[str, tuple[int, ...]], where: str
    ) -> Matching:
        """Match a checkpoint's tensors with the root network's, as `pretrained.match_names`."""
        return match_names(self.architecture.base, self.loader, module, shapes, where)

    def starting_names(
        self,
        module: nn.Module,
        shapes: Mapping[str, tuple[int, ...]],
        read: Callable[[str], Tensor],
        where: str,
    ) -> dict[str, str]:
        return starting_names(self.match_names(module, shapes, where), read, where)

    def reorder(
        self, module: nn.Module, batches: Sequence[Inputs], *, by_activation: bool = False
    ) -> None:
        inputs = {}
        if by_activation:
            dims = reading_layers(module, self.architecture)
            inputs = mean_inputs(module, self.forward, batches, dims)
        reorder_by_importance(module, self.root.config, self.architecture, inputs)

    def stored_config(self, config: Config, dtype: str) -> Config:
        return {**config, "dtype": dtype}

    def load(self, folder: Path, config: Config, tensors: Mapping[str, Tensor]) -> nn.Module:
        import transformers

        transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        stock = getattr(transformers, self._auto_class)
        module, loading_info = stock.from_pretrained(
            folder,
            dtype="float32",
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
        )
        wrong = {kind: sorted(map(str, names)) for kind, names in loading_info.items() if names}
        if wrong:
            raise WorkError(f"verification failed: {self.loader} reports {wrong}")
        return cast(nn.Module, module)

    def _depth(self, submodel: SubModel) -> int:
        depth = int(submodel.axes.get("depth", self.num_alike_layers))
        return kept_blocks([self.num_alike_layers], depth, "prefix")[0]

    def _scale(self, config: Config, axis: str, value: float) -> None:
        """Multiply the entries of an axis by `value`; RequestError unless all stay whole."""
        keys = [key for key in self.architecture.scales[axis] if config.get(key) is not None]
        for key in keys:
            scaled = config[key] * value
            if round(scaled) < 1 or not math.isclose(scaled, round(scaled), rel_tol=1e-6):
                parts = math.gcd(*(self.root.config[key] for key in keys))
                raise RequestError(
                    f"{axis} {value:g} makes {key} {scaled:g} of {config[key]};"
                    f" legal values are {_multiples(parts)}"
                )
            config[key] = round(scaled)


def _multiples(parts: int) -> str:
    text = f"multiples of 1/{parts}"
    if parts <= _MOST_LISTED:
        text += f": {listed(f'{i / parts:.6g}' for i in range(1, parts + 1))}"
    return text
