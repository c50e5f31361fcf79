"""Completion of a stock configuration from the spec, the data, a pretrained model and defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sortednet_cli.errors import RequestError, listed
from sortednet_cli.families.root import Config, check_blocks
from sortednet_cli.families.transformers.architecture import Architecture
from sortednet_cli.families.transformers.stock_configs import (
    known_entries,
    model_entries,
    refusals_of,
    standard_config,
)
from sortednet_cli.spec.families import family_facts


def class_of(config: Mapping[str, Any]) -> str:
    """Return the first class that a stock configuration names; empty if it names none."""
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def complete_config(
    family: str,
    task: str,
    config: Config,
    facts: Mapping[str, Any],
    stock: Mapping[str, Any] | None = None,
) -> Config:
    """Complete a stock configuration with entries from the data and defaults of its class.

    Args:
        config: the spec's entries, which override all others.
        facts: those of the data's `InputFormat`.
        stock: the configuration of a pretrained model.

    Raises:
        RequestError: the family does not accept the model type, the stock class refuses the
            configuration, or the data do not fit the model: images of another size, or texts that
            need more tokens or positions.
    """
    stock = stock or {}
    model_type = config.get("model_type", stock.get("model_type", family))
    architecture = _find_architecture(family, model_type)
    standard = standard_config(model_type, stock, "model.pretrained: config.json") if stock else {}
    entries = {
        **architecture.defaults,
        **_DATA_ENTRIES[architecture.inputs](facts, architecture),
        **standard,
        **config,
        **_label_entries(facts["classes"]),
        "architectures": [architecture.heads[task].class_name],
    }
    entries.pop("model_type", None)
    if isinstance(layers := entries.get(architecture.layer_count), int):
        check_blocks([layers])
    full = _stock_config(model_type, entries)
    _CHECKS[architecture.inputs](full, facts, architecture)
    for key, value_of in architecture.derived.items():
        full[key] = value_of(full) if full.get(key) is None else full[key]
    if architecture.has_head_size:
        full["head_dim"] = full.get("head_dim") or _head_size(full)
    return full


def check_entries(config: Config) -> None:
    """RequestError for entries that the stock class would accept but ignore, or cannot run with."""
    model_type = config["model_type"]
    if unknown := sorted(set(config) - set(known_entries(model_type, config)) - {"model_type"}):
        raise RequestError(f"the configuration of {model_type} has no {listed(unknown)}")
    if config.get("return_dict") is False:
        raise RequestError("model.config.return_dict: must not be false, leave it out")


def _find_architecture(family: str, model_type: object) -> Architecture:
    declared = family_facts(family)
    assert isinstance(declared, Architecture)
    try:
        return declared.member(model_type)
    except RequestError as error:
        raise RequestError(f"model.config.{error}") from error


def _entries_of_texts(facts: Mapping[str, Any], architecture: Architecture) -> Config:
    return {
        "vocab_size": facts["vocab_size"],
        architecture.position_count: (
            facts["max_length"] + architecture.first_position(facts["pad_id"])
        ),
        **{f"{name}_token_id": facts[f"{name}_id"] for name in ("pad", "bos", "eos")},
    }


def _entries_of_images(facts: Mapping[str, Any], architecture: Architecture) -> Config:
    return {"num_channels": facts["channels"], "image_size": facts["image_size"]}


def _label_entries(classes: Sequence[str]) -> Config:
    """Return the entries that name a classifier's classes; empty without classes."""
    if not classes:
        return {}
    return {
        "id2label": {str(i): name for i, name in enumerate(classes)},
        "label2id": {name: i for i, name in enumerate(classes)},
    }


def _stock_config(model_type: str, entries: Config) -> Config:
    """Fill in the defaults of the stock class; RequestError if it refuses an entry."""
    from transformers import AutoConfig

    with refusals_of(model_type, "model.config"):
        known = known_entries(model_type, entries)
        full = model_entries(AutoConfig.for_model(model_type, **entries))
    if unknown := sorted(entries.keys() - known.keys()):
        raise RequestError(f"model.config: {model_type} has no {listed(unknown)}")
    return full


def _check_texts(config: Config, facts: Mapping[str, Any], architecture: Architecture) -> None:
    first = architecture.first_position(facts["pad_id"])
    num_positions = config[architecture.position_count] - first
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


def _check_images(config: Config, facts: Mapping[str, Any], architecture: Architecture) -> None:
    if config["num_channels"] != facts["channels"]:
        raise RequestError(
            f"the images have {facts['channels']} channels, but the model takes"
            f" {config['num_channels']}"
        )
    if config["image_size"] != facts["image_size"]:
        raise RequestError(
            f"the images are {facts['image_size']} pixels wide, but the model takes"
            f" {config['image_size']}: set data.image_size = {config['image_size']}"
        )


def _head_size(config: Config) -> int:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    if heads < 1 or hidden < 1 or hidden % heads:
        raise RequestError(f"model.config: hidden_size {hidden} is not a multiple of {heads} heads")
    return int(hidden // heads)


_DATA_ENTRIES = {"text": _entries_of_texts, "image": _entries_of_images}
"""For each kind of data, the entries that follow from it."""

_CHECKS = {"text": _check_texts, "image": _check_images}
