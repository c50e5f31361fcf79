"""A stock transformers checkpoint, opened: sub-models can be cut out of it as out of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sortednet_cli.data import TextFormat
from sortednet_cli.engine.source import Source, check_weights, load_weights, open_root
from sortednet_cli.errors import RequestError, listed, reason_of
from sortednet_cli.families import REFUSALS, Root, complete_config, family_of
from sortednet_cli.families.transformer_nets import ARCHITECTURES, class_of
from sortednet_cli.nesting import NestedNetwork, SlicePlan, init_network, plan_from_root
from sortednet_cli.space import MAX_SUBMODELS, SearchSpace, SubModel
from sortednet_cli.spec import TextDataSpec
from sortednet_cli.storage.pretrained import open_pretrained

MOST_TOKENS = 2048
"""Length of a sequence at most, for costs and checks: positions reach further in many."""

_TASKS = {
    "ForCausalLM": "causal-lm",
    "ForMaskedLM": "masked-lm",
    "ForSequenceClassification": "classification",
}
_SCALED = ("hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size")


@dataclass(frozen=True)
class StockCheckpoint(Source):
    """A folder as `save_pretrained` writes it; it was not trained to be cut.

    Its search space is every depth and every legal width.
    """

    files: tuple[Path, ...] = ()

    @property
    def weight_files(self) -> tuple[Path, ...]:
        return self.files

    @property
    def tokenizer(self) -> Path:
        return self.path

    def plan(self, submodel: SubModel) -> SlicePlan:
        return plan_from_root(self.family, submodel)

    def network(self, device: torch.device | str = "cpu") -> NestedNetwork:
        check_weights(self.family, self.family.root.config, self.files)
        module = init_network(self.family, seed=0)
        load_weights(module, self.files)
        return NestedNetwork(self.family, self.space, module.eval().to(device))


def is_checkpoint(path: Path) -> bool:
    """Whether a folder looks like a stock checkpoint: it has a configuration and weights."""
    names = ("model.safetensors", "model.safetensors.index.json")
    return (path / "config.json").is_file() and any((path / name).is_file() for name in names)


def load_stock(path: Path) -> StockCheckpoint:
    """Open a stock checkpoint.

    Raises:
        RequestError: its class is none that can be cut, or its files are damaged.
    """
    pretrained = open_pretrained(str(path))
    stock = pretrained.config
    name = class_of(stock)
    task = next((task for end, task in _TASKS.items() if name.endswith(end)), None)
    family = family_of(stock.get("model_type"))
    if task is None or family is None:
        raise RequestError(
            f"{path}: config.json: {name or 'no class'} of model_type"
            f" {stock.get('model_type')!r} cannot be cut; {listed(ARCHITECTURES)} can"
        )
    inputs = _format(path, stock, task)
    config = complete_config(family, task, {}, inputs.facts(), stock)
    root = Root(family, config, "prefix")
    return StockCheckpoint(
        path=path,
        name=path.resolve().name,
        family=open_root(root, (), inputs, where=f"{path}: config.json"),
        space=_every_point(config),
        format=inputs,
        data=TextDataSpec(source="text", max_length=max(8, inputs.max_length)),
        rows={},
        files=pretrained.files,
    )


def _format(path: Path, stock: dict[str, Any], task: str) -> TextFormat:
    try:
        return _read_format(path, stock, task)
    except REFUSALS as error:
        raise RequestError(f"{path}: config.json is damaged: {reason_of(error)}") from error


def _read_format(path: Path, stock: dict[str, Any], task: str) -> TextFormat:
    positions = int(stock.get("max_position_embeddings", MOST_TOKENS))
    vocab = int(stock["vocab_size"])
    labels = stock.get("id2label") or {"0": "0", "1": "1"}
    classes = tuple(map(str, labels.values())) if task == "classification" else ()
    pad, bos, eos = (stock.get(f"{role}_token_id") for role in ("pad", "bos", "eos"))
    # RoBERTa's positions begin after the padding's number.
    length = min(MOST_TOKENS, positions - (pad or 0) - 1 if task != "causal-lm" else positions)
    eos = eos[0] if isinstance(eos, list) else eos
    if not all(number is None or isinstance(number, int) for number in (pad, bos, eos)):
        raise TypeError("pad_token_id, bos_token_id and eos_token_id are numbers of tokens")
    # Some configurations say -1 where there is no such token.
    pad, bos, eos = (None if number is None or number < 0 else number for number in (pad, bos, eos))
    return TextFormat(task, vocab, length, classes, pad or 0, bos, eos, path.resolve().name)


def _every_point(config: dict[str, Any]) -> SearchSpace:
    parts = math.gcd(*(config[key] for key in _SCALED if config.get(key)))
    if (count := parts * config["num_hidden_layers"]) > MAX_SUBMODELS:
        raise RequestError(f"config.json: {count:,} sub-models, more than {MAX_SUBMODELS:,}")
    widths = [part / parts for part in range(1, parts + 1)]
    return SearchSpace.of({"width": widths, "depth": range(1, config["num_hidden_layers"] + 1)})
