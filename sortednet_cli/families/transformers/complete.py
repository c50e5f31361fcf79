"""A stock configuration made whole: by the spec, the data, a pretrained model and its class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sortednet_cli.errors import RequestError, listed
from sortednet_cli.families.root import Config, check_blocks
from sortednet_cli.families.transformers.architecture import Architecture
from sortednet_cli.families.transformers.stock_configs import (
    known_entries,
    plain,
    refusals_of,
    standard_config,
)
from sortednet_cli.spec.families import family_facts


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
    stock = stock or {}
    declared = family_facts(family)
    assert isinstance(declared, Architecture)
    model_type = config.get("model_type", stock.get("model_type", family))
    architecture = _member(declared, model_type)
    first = architecture.first_position(facts["pad_id"])
    defaults = {
        "vocab_size": facts["vocab_size"],
        "max_position_embeddings": facts["max_length"] + first,
        **{f"{name}_token_id": facts[f"{name}_id"] for name in ("pad", "bos", "eos")},
    }
    chosen = {key: value for key, value in config.items() if key != "model_type"}
    read = standard_config(model_type, stock, "model.pretrained: config.json") if stock else {}
    given = {**defaults, **read, **chosen}
    given.pop("model_type", None)
    given["architectures"] = [architecture.heads[task].class_name]
    if facts["classes"]:
        given["id2label"] = {str(i): name for i, name in enumerate(facts["classes"])}
        given["label2id"] = {name: i for i, name in enumerate(facts["classes"])}
    if isinstance(layers := given.get("num_hidden_layers"), int):
        check_blocks([layers])
    full = _stock_config(model_type, given)
    _check_sizes(full, facts, full["max_position_embeddings"] - first)
    if architecture.has_head_size:
        full["head_dim"] = full.get("head_dim") or _head_size(full)
    return full


def check_entries(config: Config) -> None:
    """RequestError for entries that a stock class does not have, or cannot be run with.

    It would be handed them on all the same.
    """
    model_type = config["model_type"]
    if unknown := sorted(set(config) - set(known_entries(model_type, config)) - {"model_type"}):
        raise RequestError(f"the configuration of {model_type} has no {listed(unknown)}")
    if config.get("return_dict") is False:
        raise RequestError("model.config.return_dict: outputs are found by name: leave it out")


def _member(declared: Architecture, model_type: object) -> Architecture:
    try:
        return declared.member(model_type)
    except RequestError as error:
        raise RequestError(f"model.config.{error}") from error


def _stock_config(model_type: str, given: Config) -> Config:
    from transformers import AutoConfig

    with refusals_of(model_type, "model.config"):
        known = known_entries(model_type, given)
        full = plain(AutoConfig.for_model(model_type, **given))
    if unknown := sorted(given.keys() - known.keys()):
        raise RequestError(f"model.config: {model_type} has no {listed(unknown)}")
    return full


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
