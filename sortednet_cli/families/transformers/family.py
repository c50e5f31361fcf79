"""BERT, RoBERTa and LLaMA: the stock classes of transformers, cut through their own configs.

Heads keep their size and query groups their ratio, so that the first heads of the root are the
heads of every sub-model. Depth keeps the first layers: the state after each of them, under the
shared norm and head, is an exit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from sortednet_cli.errors import RequestError, WorkError, listed
from sortednet_cli.families.base import Config, Family, Root, check_blocks
from sortednet_cli.families.shared import Inputs, SharedPass, Tail
from sortednet_cli.families.transformers.stock_configs import (
    known_entries,
    plain,
    refusals_of,
    standard_config,
)
from sortednet_cli.space import SubModel, kept_blocks

_AXIS_KEYS = {
    "width": ("hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size"),
    "heads": ("num_attention_heads", "num_key_value_heads"),
    "ffn": ("intermediate_size",),
    "hidden": ("hidden_size",),
}
"""Entries of a stock config that an axis scales; those a config has not are passed over."""

_MOST_LISTED = 16


@dataclass(frozen=True)
class Architecture:
    """Where a stock class holds its parts.

    Attributes:
        base: attribute of the model under the head.
        layers: path of its list of layers.
        others: paths of all other modules that hold tensors.
        tail: from the module and states [N, C] to logits [N, K].
        loader: the class that loads an artifact.
    """

    base: str
    layers: str
    others: tuple[str, ...]
    tail: Tail
    loader: str


def _llama_tail(module: Any, states: Tensor) -> Tensor:
    return cast(Tensor, module.lm_head(module.model.norm(states)))


def _bert_classifier(module: Any, states: Tensor) -> Tensor:
    return cast(Tensor, module.classifier(module.dropout(module.bert.pooler(states[:, None]))))


def _bert_words(module: Any, states: Tensor) -> Tensor:
    return cast(Tensor, module.cls(states))


def _roberta_classifier(module: Any, states: Tensor) -> Tensor:
    return cast(Tensor, module.classifier(states[:, None]))


def _roberta_words(module: Any, states: Tensor) -> Tensor:
    return cast(Tensor, module.lm_head(states))


_DECODER = Architecture(
    base="model",
    layers="model.layers",
    others=("model.embed_tokens", "model.norm", "lm_head"),
    tail=_llama_tail,
    loader="AutoModelForCausalLM",
)
_CLASSIFIER, _WORDS = "AutoModelForSequenceClassification", "AutoModelForMaskedLM"

ARCHITECTURES: Mapping[str, Architecture] = {
    "LlamaForCausalLM": _DECODER,
    "Qwen2ForCausalLM": _DECODER,
    "MistralForCausalLM": _DECODER,
    "BertForSequenceClassification": Architecture(
        base="bert",
        layers="bert.encoder.layer",
        others=("bert.embeddings", "bert.pooler", "classifier"),
        tail=_bert_classifier,
        loader=_CLASSIFIER,
    ),
    "BertForMaskedLM": Architecture(
        base="bert",
        layers="bert.encoder.layer",
        others=("bert.embeddings", "cls"),
        tail=_bert_words,
        loader=_WORDS,
    ),
    "RobertaForSequenceClassification": Architecture(
        base="roberta",
        layers="roberta.encoder.layer",
        others=("roberta.embeddings", "classifier"),
        tail=_roberta_classifier,
        loader=_CLASSIFIER,
    ),
    "RobertaForMaskedLM": Architecture(
        base="roberta",
        layers="roberta.encoder.layer",
        others=("roberta.embeddings", "lm_head"),
        tail=_roberta_words,
        loader=_WORDS,
    ),
}
"""Every stock class that can be built; no other name in a file is ever looked up."""

_HEADS = {
    "classification": "ForSequenceClassification",
    "masked-lm": "ForMaskedLM",
    "causal-lm": "ForCausalLM",
    "answers": "ForCausalLM",
}
_MODEL_TYPES = {
    "bert": {"bert": "Bert"},
    "roberta": {"roberta": "Roberta"},
    "llama": {"llama": "Llama", "qwen2": "Qwen2", "mistral": "Mistral"},
}


def family_of(model_type: object) -> str | None:
    """The family that a stock `model_type` belongs to, if there is one."""
    known = _MODEL_TYPES.items()
    return next((name for name, types in known if model_type in list(types)), None)


def class_of(config: Mapping[str, Any]) -> str:
    """The class that a stock configuration names first; empty if it names none."""
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def complete_config(
    family: str,
    task: str,
    config: Config,
    facts: Mapping[str, Any],
    stock: Mapping[str, Any] | None = None,
) -> Config:
    """Fill a stock configuration up with what the data decide and its class's defaults.

    Args:
        config: the spec's entries, which override all others.
        facts: vocab_size, max_length, classes, pad_id, bos_id and eos_id of the texts.
        stock: the configuration of a pretrained model, as `standard_config` reads it.

    Returns:
        The whole configuration as plain JSON values.

    Raises:
        RequestError: the type of model is none of the family, the stock class refuses, or the
            texts need more tokens or positions than the model has.
    """
    types = _MODEL_TYPES[family]
    stock = stock or {}
    model_type = config.get("model_type", stock.get("model_type", family))
    if model_type not in types:
        raise RequestError(
            f"model.config.model_type: {family} takes {listed(types)}, not {model_type!r}"
        )
    first = facts["pad_id"] + 1 if family == "roberta" else 0  # where positions begin
    defaults = {
        "vocab_size": facts["vocab_size"],
        "max_position_embeddings": facts["max_length"] + first,
        **{f"{name}_token_id": facts[f"{name}_id"] for name in ("pad", "bos", "eos")},
    }
    chosen = {key: value for key, value in config.items() if key != "model_type"}
    read = standard_config(model_type, stock, "model.pretrained: config.json") if stock else {}
    given = {**defaults, **read, **chosen}
    given.pop("model_type", None)
    given["architectures"] = [types[model_type] + _HEADS[task]]
    if facts["classes"]:
        given["id2label"] = {str(i): name for i, name in enumerate(facts["classes"])}
        given["label2id"] = {name: i for i, name in enumerate(facts["classes"])}
    if isinstance(layers := given.get("num_hidden_layers"), int):
        check_blocks([layers])
    full = _stock_config(model_type, given)
    _check_sizes(full, facts, full["max_position_embeddings"] - first)
    if family == "llama":
        full["head_dim"] = full.get("head_dim") or _head_size(full)
    return full


def _stock_config(model_type: str, given: Config) -> Config:
    from transformers import AutoConfig

    with refusals_of(model_type, "model.config"):
        if unknown := sorted(set(given) - set(known_entries(model_type, given))):
            raise RequestError(f"model.config: {model_type} has no {listed(unknown)}")
        return plain(AutoConfig.for_model(model_type, **given))


def _check_entries(root: Root) -> None:
    """Entries a stock class does not have would be handed on to it all the same."""
    config = root.config
    model_type, types = config.get("model_type"), _MODEL_TYPES[root.family]
    if model_type not in types:
        raise RequestError(f"model_type: {root.family} takes {listed(types)}, not {model_type!r}")
    if unknown := sorted(set(config) - set(known_entries(model_type, config)) - {"model_type"}):
        raise RequestError(f"the configuration of {model_type} has no {listed(unknown)}")


def _check_sizes(config: Config, facts: Mapping[str, Any], num_positions: int) -> None:
    if facts["vocab_size"] > config["vocab_size"]:
        raise RequestError(
            f"the tokenizer has {facts['vocab_size']} tokens, more than the"
            f" {config['vocab_size']} rows of the model's embedding"
        )
    if facts["max_length"] > num_positions:
        raise RequestError(
            f"data.max_length = {facts['max_length']} is more than the"
            f" {num_positions} positions of the model"
        )


def _head_size(config: Config) -> int:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    if heads < 1 or hidden < 1 or hidden % heads:
        raise RequestError(f"model.config: hidden_size {hidden} is no multiple of {heads} heads")
    return int(hidden // heads)


class TransformerFamily(Family):
    """Width scales hidden size, heads and FFN together; depth keeps the first layers."""

    shares_depths = True
    shares_buffers = True

    def __init__(self, root: Root) -> None:
        super().__init__(root)
        name = class_of(root.config)
        if name not in ARCHITECTURES:
            raise RequestError(f"architectures: {name!r} is none of {listed(ARCHITECTURES)}")
        check_blocks([self.num_layers])
        _check_entries(root)
        self.architecture = ARCHITECTURES[name]
        self._class_name = name
        self.loader = f"transformers.{self.architecture.loader}"
        loader = self.architecture.loader
        self.card = (
            f"from transformers import {loader}\n\nmodel = {loader}.from_pretrained(folder)\n"
        )
        self.tokenizer_card = (
            "\nfrom transformers import AutoTokenizer\n\n"
            "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        )

    @property
    def num_layers(self) -> int:
        return int(self.root.config["num_hidden_layers"])

    def build(self, config: Config) -> nn.Module:
        import transformers
        from huggingface_hub.errors import StrictDataclassError

        try:
            stock = transformers.AutoConfig.for_model(**config)
        except StrictDataclassError as error:
            raise ValueError(str(error).splitlines()[-1].strip()) from error
        return cast(nn.Module, getattr(transformers, self._class_name)(stock))

    def shrink(self, submodel: SubModel) -> Config:
        config = dict(self.root.config)
        for axis, value in submodel.values:
            if axis == "depth":
                config["num_hidden_layers"] = self._depth(submodel)
            else:
                self._scale(config, axis, float(value))
        if config.get("layer_types"):
            config["layer_types"] = config["layer_types"][: config["num_hidden_layers"]]
        return config

    def module_map(self, submodel: SubModel) -> dict[str, str | None]:
        layers = [f"{self.architecture.layers}.{i}" for i in range(self._depth(submodel))]
        return {path: path for path in (*self.architecture.others, *layers)}

    def forward(self, module: nn.Module, inputs: Inputs) -> Tensor:
        with self._frequencies_at_rest(module):
            found = module(**cast(Mapping[str, Tensor], inputs), return_dict=True)
        return cast(Tensor, found.logits)

    def shared_pass(
        self, submodels: Sequence[SubModel], at: Callable[[SubModel], nn.Module]
    ) -> SharedPass:
        depths = [self._depth(submodel) for submodel in submodels]
        return PrefixPass(at(submodels[0]), depths, self.architecture)

    def compiled_parts(self, submodel: SubModel, module: nn.Module) -> list[nn.Module]:
        return list(cast(nn.ModuleList, module.get_submodule(self.architecture.layers)))

    def load(self, folder: Path, config: Config, tensors: Mapping[str, Tensor]) -> nn.Module:
        import transformers

        transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        stock = getattr(transformers, self.architecture.loader)
        module, found = stock.from_pretrained(
            folder,
            dtype="float32",
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
        )
        wrong = {kind: sorted(map(str, names)) for kind, names in found.items() if names}
        if wrong:
            raise WorkError(f"verification failed: {self.loader} reports {wrong}")
        return cast(nn.Module, module)

    @contextmanager
    def _frequencies_at_rest(self, module: nn.Module) -> Iterator[None]:
        """On the meta device no length can be compared: rotary frequencies do not follow it."""
        rotary = getattr(module.get_submodule(self.architecture.base), "rotary_emb", None)
        if rotary is None or not rotary.inv_freq.is_meta:
            yield
            return
        kind, rotary.rope_type = rotary.rope_type, "default"
        try:
            yield
        finally:
            rotary.rope_type = kind

    def _depth(self, submodel: SubModel) -> int:
        depth = int(submodel.axes.get("depth", self.num_layers))
        return kept_blocks([self.num_layers], depth, "prefix")[0]

    def _scale(self, config: Config, axis: str, value: float) -> None:
        """Multiply an axis's entries by `value`; RequestError unless all stay whole."""
        keys = [key for key in _AXIS_KEYS[axis] if config.get(key) is not None]
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


class PrefixPass(SharedPass):
    """Depths of one stock transformer: every state lies on the way of the deepest.

    The first of `depths` is the module's own.
    """

    def __init__(self, module: nn.Module, depths: Sequence[int], architecture: Architecture):
        self.modules = [module]
        self._depths = depths
        self._architecture = architecture

    def states(self, inputs: Inputs) -> list[Tensor]:
        (module,) = self.modules
        layers = cast(nn.ModuleList, module.get_submodule(self._architecture.layers))
        states: dict[int, Tensor] = {}
        hooks = [
            layers[depth - 1].register_forward_hook(partial(_keep, states, depth))
            for depth in self._depths
        ]
        try:
            base = getattr(module, self._architecture.base)
            base(**cast(Mapping[str, Tensor], inputs), use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        return [states[depth] for depth in self._depths]

    def logits(self, number: int, states: Tensor) -> Tensor:
        return self._architecture.tail(self.modules[0], states)


def _keep(
    states: dict[int, Tensor], depth: int, layer: nn.Module, inputs: object, output: Tensor
) -> None:
    states[depth] = output
