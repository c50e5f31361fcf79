"""Reading of specs: from a preset or a file with overrides to a validated `RunSpec`."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from sortednet_cli.bounded import MAX_SPEC, check_nesting, read_bounded
from sortednet_cli.errors import RequestError, listed, suggestion
from sortednet_cli.logs import logger
from sortednet_cli.spec import presets
from sortednet_cli.spec.data import DATA_KINDS
from sortednet_cli.spec.models import RunSpec
from sortednet_cli.spec.vocabulary import STORED
from sortednet_cli.wrong_values import WrongValue, wrong_values

Table = dict[str, Any]


def load_preset(name: str, overrides: Sequence[str] = ()) -> RunSpec:
    """Read a preset and apply `a.b=value` overrides; raises the errors of `parse_spec`.

    An override without a value, `a.b=`, removes the key.
    """
    where = f"preset {name}{_changed_by(overrides)}"
    return parse_spec(presets.text(name), where=where, name=name, overrides=overrides)


def load_spec_file(path: Path, overrides: Sequence[str] = ()) -> RunSpec:
    """Read a spec file and apply `a.b=value` overrides.

    Raises:
        RequestError: the file cannot be read, or is no valid spec.
    """
    try:
        text = read_bounded(path, MAX_SPEC).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read the spec {path}: {_reason(error)}") from error
    where = f"{path}{_changed_by(overrides)}"
    return parse_spec(text, where=where, name=path.stem, overrides=overrides)


def _changed_by(overrides: Sequence[str]) -> str:
    """Name the options that changed a spec: what is wrong may not be the file's mistake."""
    if not overrides:
        return ""
    is_data = all(override.startswith("data.path=") for override in overrides)
    return f" with your {'--data' if is_data else '--set'}"


def parse_spec(
    text: str, *, where: str, name: str, overrides: Sequence[str] = (), stored: bool = False
) -> RunSpec:
    """Parse and validate a spec in TOML.

    Args:
        where: where the text comes from, for messages.
        name: the run's name, unless the text has one.
        overrides: `a.b=value` each.
        stored: whether a run holds it: whoever reads that may lack a package that trained it.

    Raises:
        RequestError: the text is not TOML, or keys are wrong; the message lists every wrong key
            with its path and the legal values.
    """
    try:
        table = tomllib.loads(text)
        check_nesting(table)
    except RecursionError as error:
        raise RequestError(f"{where} is not valid TOML: nested too deep") from error
    except ValueError as error:  # TOMLDecodeError, or a number with thousands of digits
        raise RequestError(f"{where} is not valid TOML: {error}") from error
    table.setdefault("name", name)
    _tell_replaced(overrides)
    for override in overrides:
        _apply(table, override)
    try:
        return RunSpec.model_validate(table, context=STORED if stored else None)
    except ValidationError as error:
        lines = [f"  {_explain(wrong)}" for wrong in wrong_values(error.errors())]
        raise RequestError("\n".join([f"{where}: the spec is wrong", *lines])) from error


def dump_spec(spec: RunSpec) -> str:
    """Write a spec as TOML that `parse_spec` reads back to an equal spec."""
    return tomli_w.dumps(_without_none(spec.model_dump(mode="json")))


def _tell_replaced(overrides: Sequence[str]) -> None:
    """Warn if one override replaces another one silently: two keys name one quantity."""
    keys = [override.partition("=")[0].strip() for override in overrides]
    given = [key for key in keys if key in ("train.updates", "train.epochs")]
    if len(set(given)) > 1:
        logger.warning("train.updates and train.epochs are one quantity: %s counts", given[-1])


def _apply(table: Table, override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise RequestError(f"--set {override!r}: write it as a.b=value")
    if not text.strip():
        _remove(table, override, keys)
        return
    value = _parse_value(text.strip())
    if keys[0] == "train" and keys[-1] in ("updates", "epochs"):
        # Both set the length of the training, so an override of one replaces the other.
        train = table.get("train")
        if isinstance(train, dict):
            train.pop("epochs" if keys[-1] == "updates" else "updates", None)
    for key in keys[:-1]:
        nested = table.setdefault(key, {})
        if not isinstance(nested, dict):
            raise RequestError(f"--set {override!r}: {key} is a value, not a table")
        table = nested
    table[keys[-1]] = value


def _remove(table: Table, override: str, keys: Sequence[str]) -> None:
    """Remove a key, so that its default holds; RequestError if there is no such key."""
    *tables, last = keys
    for key in tables:
        nested = table.get(key, {})
        table = nested if isinstance(nested, dict) else {}
    kinds = DATA_KINDS if tables[:1] == ["data"] else [None]
    legal = {key for kind in kinds for key in _legal_keys(_with_kind(tables, kind))}
    if last not in table and last not in legal:
        hint = suggestion(last, legal)
        raise RequestError(f"--set {override!r}: there is no such key to remove{hint}")
    table.pop(last, None)


def _parse_value(text: str) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
        check_nesting(value)
    except (ValueError, RecursionError):
        return text
    return value


def _explain(wrong: WrongValue) -> str:
    legal = _legal_keys(wrong.path[:-1]) if wrong.kind == "extra_forbidden" else []
    return explain(wrong, _without_kind(wrong.path), legal)


def explain(wrong: WrongValue, location: Sequence[Any], legal: Sequence[str]) -> str:
    """Format a wrong value or an unknown key as a line.

    Args:
        location: its path, as the user writes it.
        legal: the legal keys, if the key is unknown.
    """
    path = ".".join(map(str, location))
    if wrong.kind == "extra_forbidden":
        hint = suggestion(location[-1], legal)
        return f"{path}: unknown key{hint}; the keys are {listed(legal)}"
    return f"{path}: {wrong.message}" if path else wrong.message


def _without_kind(location: Sequence[Any]) -> Sequence[Any]:
    """Remove the kind of data from pydantic's path of a key, because users do not write it."""
    return [part for i, part in enumerate(location) if i != 1 or location[0] != "data"]


def _with_kind(location: Sequence[str], kind: str | None) -> Sequence[str]:
    """Insert the kind of data into a path that a user wrote, if there is one."""
    return location if kind is None else [*location[:1], kind, *location[1:]]


def _legal_keys(location: Sequence[Any]) -> list[str]:
    model: Any = RunSpec
    if len(location) > 1 and location[0] == "data":
        model, location = DATA_KINDS[location[1]], location[2:]
    for part in location:
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            return []
        model = fields[part].annotation
    return list(getattr(model, "model_fields", {}))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
