"""Stock configurations as files hold them: read as the installed transformers reads them."""

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
"""Entries of any class that change what its tensors mean."""

_MOST_CLASSES = 1 << 20
"""The stock class writes a name for each."""

_COUNT_LAYERS = ("assistant_early_exit", "dola_layers")
"""Entries of a generation config that name layers."""

_CHANGE_CHOICE = (
    *("repetition_penalty", "no_repeat_ngram_size", "guidance_scale", "sequence_bias"),
    *("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "stop_strings"),
    *("min_length", "min_new_tokens", "forced_bos_token_id", "forced_eos_token_id"),
)
"""Entries of a generation config that change even which token is the best one."""


def standard_config(model_type: str, stock: Mapping[str, Any], where: str) -> Config:
    """Let the installed class read a stock configuration: old entries get their new form.

    What the class has no entry for never reaches the network: it is left out, and said.

    Args:
        where: names the file in messages.

    Raises:
        RequestError: the class refuses it, or its weights cannot be cut.
    """
    from transformers import AutoConfig

    for key, reason in _NOT_CUT.items():
        if stock.get(key):
            raise RequestError(f"{where}: a model with {key} cannot be cut: {reason}")
    if isinstance(count := stock.get("num_labels"), int) and count > _MOST_CLASSES:
        raise RequestError(f"{where}: num_labels: more than {_MOST_CLASSES:,} classes")
    given = {key: value for key, value in stock.items() if key != "model_type"}
    with refusals_of(model_type, where):
        read = AutoConfig.for_model(model_type, **deepcopy(given))
        if getattr(read, "rope_parameters", None):
            read.standardize_rope_params()  # as its network will, once all entries are in place
        full = plain(read)
    known = known_entries(model_type, full)
    if unknown := sorted(full.keys() - known.keys() - {"model_type"}):
        logger.info("%s: left out, no entries of %s: %s", where, model_type, listed(unknown))
    return {"model_type": model_type, **known}


def known_entries(model_type: str, given: Mapping[str, Any]) -> Config:
    """Keep the entries that the stock class has and that are the model's own."""
    from transformers import AutoConfig

    names = set(AutoConfig.for_model(model_type).to_dict()) | {"head_dim"}
    names -= {*_NOT_OF_THE_MODEL, "model_type"}
    return {key: value for key, value in given.items() if key in names}


def plain(stock: Any) -> Config:
    """The entries of a stock configuration as JSON holds them, without what is no model's own."""
    full = {key: value for key, value in stock.to_dict().items() if key not in _NOT_OF_THE_MODEL}
    return cast(Config, json.loads(json.dumps(full)))


_REFUSALS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What the configurations of transformers raise over entries of the wrong type or size, beside
errors of their own class: few of them check before they calculate."""


@contextmanager
def refusals_of(model_type: str, where: str) -> Iterator[None]:
    """Tell what a stock configuration raises over its entries as a RequestError.

    Nothing but calls of transformers belongs inside.
    """
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except (*_REFUSALS, StrictDataclassError) as error:
        # A strict class says which field it was first, and what is wrong with it last.
        reason = reason_of(ValueError((str(error).splitlines() or [""])[-1]))
        raise RequestError(f"{where}: {model_type} refused it: {reason}") from error


def class_names(named: Mapping[str, Any], numbered: object, where: str) -> tuple[str, ...]:
    """The names of a classifier's classes, in the order of their numbers.

    Args:
        named: `id2label` of its configuration.
        numbered: `label2id`, if there is one.
        where: names the file in messages.

    Raises:
        RequestError: a number is missing, or two classes have one name.
    """
    try:
        names = {int(number): str(name) for number, name in named.items()}
    except (AttributeError, ValueError) as error:
        raise RequestError(f"{where}: id2label maps numbers of classes to names") from error
    if missing := sorted(set(range(len(named))) - names.keys()):
        raise RequestError(
            f"{where}: id2label: none of {len(named)} classes is number {missing[0]}"
        )
    first: dict[str, int] = {}
    for number, name in sorted(names.items()):
        if first.setdefault(name, number) != number:
            raise RequestError(
                f"{where}: id2label: classes {first[name]} and {number} have the same name {name!r}"
            )
    if numbered not in (None, first):
        logger.info("%s: label2id differs from id2label; the names of id2label count", where)
    return tuple(first)


def generation_config(folder: Path | None, config: Config) -> Config:
    """What transformers generates by: the file that says so in `folder`, or the configuration.

    Args:
        config: the model's own, where no `folder` holds one.
    """
    if folder and (file := folder / GENERATION).is_file():
        return read_json(file)
    if folder and (file := folder / "config.json").is_file():
        config = read_json(file)
    from transformers import GenerationConfig

    with refusals_of("GenerationConfig", "config.json"):
        made = GenerationConfig.from_model_config(dict(config))
        return cast(Config, json.loads(made.to_json_string()))


def end_tokens(generation: Mapping[str, Any]) -> list[int]:
    """The tokens that end a text; RequestError if they are no numbers."""
    found = generation.get("eos_token_id")
    ends = found if isinstance(found, list) else [] if found is None else [found]
    if not all(type(token) is int for token in ends):
        raise RequestError(f"{GENERATION}: eos_token_id: {found!r} is no token's number")
    return [token for token in ends if token >= 0]


def with_end(generation: Config, token: int | None) -> Config:
    """Let a text end at `token` too."""
    ends = end_tokens(generation)
    if token is None or token in ends:
        return generation
    return {**generation, "eos_token_id": [*ends, token] if ends else token}


def of_depth(generation: Config, depth: int) -> Config:
    """What is left of a generation config in a model of `depth` layers; what is not, is said."""
    beyond = [key for key in _COUNT_LAYERS if _highest(generation.get(key)) > depth]
    if beyond:
        logger.info("%s: left out, of more than %d layers: %s", GENERATION, depth, listed(beyond))
    return {key: value for key, value in generation.items() if key not in beyond}


def unheeded(generation: Mapping[str, Any]) -> list[str]:
    """Entries that change what transformers would choose, and that no decoder here follows."""
    return [key for key in _CHANGE_CHOICE if generation.get(key) not in (None, 0, 1, [], {})]


def _highest(layers: object) -> int:
    numbers = layers if isinstance(layers, list) else [layers]
    return max((number for number in numbers if isinstance(number, int)), default=0)
