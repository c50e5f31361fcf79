"""What data are, and what a model can learn from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sortednet_cli.data.images.archive import read_images
from sortednet_cli.data.images.files import FolderTree
from sortednet_cli.data.images.pillow import open_image
from sortednet_cli.data.images.tree import Listing
from sortednet_cli.data.text.files import split_name
from sortednet_cli.data.text.locate import WHOLE_TEXTS, locate
from sortednet_cli.data.text.table import Table
from sortednet_cli.data.text.tokenizer import load_tokenizer
from sortednet_cli.engine.drafting.model import Found, architecture_of
from sortednet_cli.errors import RequestError, listed
from sortednet_cli.spec import TextDataSpec
from sortednet_cli.spec.families import CAUSAL_TASKS, family_facts

_LARGEST_SIZE = 224
_MOST_ROWS = 2000
_LONGEST_LABEL = 40
_LENGTHS = (16, 32, 64, 128, 256, 512)
_WINDOW = 256
"""Tokens of a window of plain text."""

_LABELS = ("label", "labels", "class", "category", "target", "sentiment", "stars", "rating")
_TEXTS = ("text", "sentence", "review", "content", "body", "comment")
_QUESTIONS = ("question", "prompt", "instruction", "query", "input")
_ANSWERS = ("answer", "response", "completion", "output", "reply")
_PAIRS = (("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"))


@dataclass(frozen=True)
class FoundData:
    """Data of a spec, and the task that they and the model are for.

    Attributes:
        what: what they are, for people.
        table: the entries of the spec's table `[data]`.
    """

    what: str
    task: str
    table: Mapping[str, Any]


def find_data(found: Found, path: Path | None) -> FoundData:
    """Find out what data are; a language model has some that every installation has.

    Raises:
        RequestError: they do not suit the model, or their columns cannot be told apart.
    """
    kind = family_facts(found.family).inputs
    if kind == "image":
        return _images(found, path)
    tasks = family_facts(found.family).tasks
    whole = next((task for task in WHOLE_TEXTS if task in tasks), None)
    if path is None:
        if whole is None:
            raise RequestError(f"{found.what} is for {listed(tasks)}: give --data")
        table = {"source": "pydoc", "max_length": _fitting(_WINDOW, found)}
        return FoundData("Python's own reference text", whole, table)
    try:
        name, tables = locate(TextDataSpec(source="text", path=str(path)), WHOLE_TEXTS[0])
    except RequestError as error:
        raise RequestError(f"{found.what} takes texts: {error}") from error
    task, columns = _columns(tables["train"], found, tasks, whole)
    length = _length(tables["train"], columns, found) if columns and task != whole else _WINDOW
    keys = {key: column for key, column in columns.items() if key != column}
    table = {"source": "text", "path": str(path.absolute()), **keys}
    rows = f"{len(tables['train']):,} {tables['train'].unit}s"
    rows += " in its training part" if len(tables) > 1 else ""
    return FoundData(f"{name}, {rows}", task, {**table, "max_length": _fitting(length, found)})


def _images(found: Found, path: Path | None) -> FoundData:
    if path is None:
        raise RequestError(f"{found.what} takes images: give --data, with a folder for each class")
    if path.is_file() and split_name(path.name) is not None:
        raise RequestError(f"{found.what} takes images, but {path} holds texts")
    size = found.image_size or min(_LARGEST_SIZE, _side(path))
    table = {"source": "image-folder", "path": str(path.absolute()), "image_size": size}
    return FoundData(f"images of {path.name}", "classification", table)


def _side(path: Path) -> int:
    """The shorter side of the first image of a folder or a tar."""
    first = (
        FolderTree.open(path).first() if path.is_dir() else next(read_images(path, Listing()), None)
    )
    if first is None:
        raise RequestError(f"{path} holds no image")
    name, data = first
    return int(min(open_image(data, name, 3, []).size))


def _columns(
    table: Table, found: Found, tasks: Iterable[str], whole: str | None
) -> tuple[str, dict[str, str]]:
    """Choose the task, and the column of each of its keys.

    Raises:
        RequestError: no column fits.
    """
    if table.plain and whole is not None:
        return whole, {}
    texts = _text_columns(table)
    if "answers" in tasks and (pair := _named(texts, _QUESTIONS)) and _named(texts, _ANSWERS):
        return "answers", {"question": pair, "answer": str(_named(texts, _ANSWERS))}
    label = _label(table, guesses=whole not in CAUSAL_TASKS) if "classification" in tasks else None
    texts = [name for name in texts if name != label]
    if texts and label is not None:
        for first, second in _PAIRS:
            if {first, second} <= set(texts):
                return "classification", {"text": first, "pair": second, "label": label}
        return "classification", {"text": _named(texts, _TEXTS) or texts[0], "label": label}
    if texts and whole is not None and (whole in CAUSAL_TASKS or len(table.columns) == 1):
        return whole, {"text": _named(texts, _TEXTS) or texts[0]}
    columns = "plain text" if table.plain else f"the columns {listed(table.columns)}"
    raise RequestError(
        f"{found.what} is for {listed(tasks)}, and {table.where} has {columns}: name its columns"
        " text and label, or question and answer, or give plain text to a language model"
    )


def _text_columns(table: Table) -> list[str]:
    """List the columns of texts, the longest texts first."""
    means = {}
    for name, values in table.columns.items():
        some = values[:_MOST_ROWS]
        is_text = all(isinstance(value, str) for value in some)
        if is_text and any(char.isalpha() for value in some for char in value):
            means[name] = sum(map(len, some)) / len(some)
    return sorted(means, key=lambda name: -means[name])


def _named(names: Iterable[str], wanted: Iterable[str]) -> str | None:
    """Return the name that comes first in `wanted`, whatever its case."""
    by_name = {name.lower(): name for name in names}
    return next((by_name[word] for word in wanted if word in by_name), None)


def _label(table: Table, guesses: bool) -> str | None:
    """Return the column of classes: by its name, or the only one with few short values."""
    named = _named(table.columns, _LABELS)
    if named is not None or not guesses:
        return named
    few = []
    for name, values in table.columns.items():
        distinct = set(map(str, values[:_MOST_ROWS]))
        most = max(2, min(100, len(values) // 10))
        if 2 <= len(distinct) <= most and max(map(len, distinct)) <= _LONGEST_LABEL:
            few.append(name)
    return few[0] if len(few) == 1 else None


def _length(table: Table, columns: Mapping[str, str], found: Found) -> int:
    """Return a length that 19 of 20 samples do not exceed, in tokens of the model's tokenizer."""
    assert found.folder is not None
    names = [name for key, name in columns.items() if key != "label"]
    rows = zip(*(map(str, table.columns[name][:_MOST_ROWS]) for name in names), strict=True)
    encode: Callable[[str], Any] = load_tokenizer(found.folder)
    lengths = sorted(len(encode(" ".join(row))["input_ids"]) for row in rows)
    usual = lengths[int(0.95 * (len(lengths) - 1))]
    return next((length for length in _LENGTHS if length >= usual), _LENGTHS[-1])


def _fitting(length: int, found: Found) -> int:
    """Lower a length to the positions of the model."""
    architecture = architecture_of(found)
    assert architecture is not None
    positions = found.stock.get(architecture.position_count, length)
    pad = found.stock.get("pad_token_id") or 0
    return min(length, int(positions) - architecture.first_position(int(pad)))
