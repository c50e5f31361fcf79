"""Stock configurations from files, read by the classes of the installed transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

from sortednet_cli.errors import RequestError, listed, reason_of
from sortednet_cli.families.root import Config
from sortednet_cli.logs import logger
from sortednet_cli.storage.files import read_json

GENERATION = "generation_config.json"

_NOT_OF_THE_MODEL = ("transformers_version", "_name_or_path", "output_attentions", "dtype")
_NOT_CUT = {
    "quantization_config": "its weights are packed; save it dequantised",
    "per_layer_config": "its layers differ from each other",
}
"""Entries that change the meaning of tensors in any class, with the reason that prevents a cut."""

_MAX_CLASSES = 1 << 20
"""Most classes of a classifier; the stock class makes a name for each of them."""

_COUNT_LAYERS = ("assistant_early_exit", "dola_layers")
"""Entries of a generation config that hold layer numbers."""

_CHANGE_CHOICE = (
    *("repetition_penalty", "no_repeat_ngram_size", "guidance_scale", "sequence_bias"),
    *("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "stop_strings"),
    *("min_length", "min_new_tokens", "forced_bos_token_id", "forced_eos_token_id"),
)
"""Entries of a generation config that change which token scores best."""


def standard_config(model_type: str, stock: Mapping[str, Any], where: str) -> Config:
    """Read a stock configuration with the installed class, which converts old entries.

    Entries that the class does not have do not affect the network. They are left out, and the log
    lists them.

    Args:
        where: the file's name in messages.

    Raises:
        RequestError: the class refuses the configuration, or the model cannot be cut.
    """
    from transformers import AutoConfig

    for key, reason in _NOT_CUT.items():
        if stock.get(key):
            raise RequestError(f"{where}: a model with {key} cannot be cut: {reason}")
    if isinstance(count := stock.get("num_labels"), int) and count > _MAX_CLASSES:
        raise RequestError(f"{where}: num_labels: more than {_MAX_CLASSES:,} classes")
    entries = {key: value for key, value in stock.items() if key != "model_type"}
    with refusals_of(model_type, where):
        config = AutoConfig.for_model(model_type, **deepcopy(entries))
        if getattr(config, "rope_parameters", None):
            config.standardize_rope_params()  # the network would do so when it is built
        full = model_entries(config)
    known = known_entries(model_type, full)
    if unknown := sorted(full.keys() - known.keys() - {"model_type"}):
        logger.info(
            "%s: left out entries that %s does not have: %s", where, model_type, listed(unknown)
        )
    return {"model_type": model_type, **known}


def known_entries(model_type: str, given: Mapping[str, Any]) -> Config:
    """Keep the entries that the stock class has and that belong to the model."""
    from transformers import AutoConfig

    names = set(AutoConfig.for_model(model_type).to_dict()) | {"head_dim"}
    names -= {*_NOT_OF_THE_MODEL, "model_type"}
    return {key: value for key, value in given.items() if key in names}


def model_entries(stock: Any) -> Config:
    """Convert a stock configuration to JSON values, with only the model's own entries."""
    full = {key: value for key, value in stock.to_dict().items() if key not in _NOT_OF_THE_MODEL}
    return cast(Config, json.loads(json.dumps(full)))


_REFUSALS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Errors that transformers' configurations raise for entries of a wrong type or size, besides their
own class of errors. Few of them check an entry before they use it."""


@contextmanager
def refusals_of(model_type: str, where: str) -> Iterator[None]:
    """Turn errors of a stock configuration into a RequestError.

    Put only calls of transformers inside, because all of `_REFUSALS` are caught.
    """
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except (*_REFUSALS, StrictDataclassError) as error:
        # The message of a strict class names the field first; its last line is the reason.
        reason = reason_of(ValueError((str(error).splitlines() or [""])[-1]))
        raise RequestError(f"{where}: {model_type} refused it: {reason}") from error


def class_names(id2label: Mapping[str, Any], label2id: object, where: str) -> tuple[str, ...]:
    """List the names of a classifier's classes, in the order of their numbers.

    Args:
        id2label: that entry of its configuration.
        label2id: that entry of its configuration, or None.
        where: the file's name in messages.

    Raises:
        RequestError: a number is missing, or two classes have the same name.
    """
    try:
        names = {int(number): str(name) for number, name in id2label.items()}
    except (AttributeError, ValueError) as error:
        raise RequestError(f"{where}: id2label must map class numbers to names") from error
    if missing := sorted(set(range(len(id2label))) - names.keys()):
        raise RequestError(
            f"{where}: id2label: none of {len(id2label)} classes is number {missing[0]}"
        )
    first: dict[str, int] = {}
    for number, name in sorted(names.items()):
        if first.setdefault(name, number) != number:
            raise RequestError(
                f"{where}: id2label: classes {first[name]} and {number} have the same name {name!r}"
            )
    if label2id not in (None, first):
        logger.info("%s: label2id differs from id2label and is ignored", where)
    return tuple(first)


def generation_config(folder: Path | None, config: Config) -> Config:
    """Read the generation settings of a folder, or derive them from its configuration.

    Args:
        folder: may hold `generation_config.json` and `config.json`; None if there is no folder.
        config: the model's configuration, used if the folder holds none.

    Raises:
        RequestError: a file is damaged, or transformers refuses the configuration.
    """
    if folder and (file := folder / GENERATION).is_file():
        return read_json(file)
    if folder and (file := folder / "config.json").is_file():
        config = read_json(file)
    from transformers import GenerationConfig

    with refusals_of("GenerationConfig", "config.json"):
        generation = GenerationConfig.from_model_config(dict(config))
        return cast(Config, json.loads(generation.to_json_string()))


def end_tokens(generation: Mapping[str, Any]) -> list[int]:
    """List the ids of the tokens that end a text; RequestError if they are not integers."""
    value = generation.get("eos_token_id")
    ends = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(token) is int for token in ends):
        raise RequestError(f"{GENERATION}: eos_token_id: {value!r} is not a token id")
    return [token for token in ends if token >= 0]


def with_end(generation: Config, token: int | None) -> Config:
    """Add `token` to the tokens that end a text."""
    ends = end_tokens(generation)
    if token is None or token in ends:
        return generation
    return {**generation, "eos_token_id": [*ends, token] if ends else token}


def of_depth(generation: Config, depth: int) -> Config:
    """Remove the entries that name layers above `depth`; the log lists them."""
    too_deep = [key for key in _COUNT_LAYERS if _highest(generation.get(key)) > depth]
    if too_deep:
        logger.info(
            "%s: left out entries for more than %d layers: %s", GENERATION, depth, listed(too_deep)
        )
    return {key: value for key, value in generation.items() if key not in too_deep}


def ignored_entries(generation: Mapping[str, Any]) -> list[str]:
    """List the entries that change the tokens transformers would choose, but not a decoder's."""
    return [key for key in _CHANGE_CHOICE if generation.get(key) not in (None, 0, 1, [], {})]


def _highest(layers: object) -> int:
    numbers = layers if isinstance(layers, list) else [layers]
    return max((number for number in numbers if isinstance(number, int)), default=0)
