"""Damage to bytes and to trees of values: the same generator, the same damage."""

from __future__ import annotations

import copy
import json
import tomllib
from pathlib import Path
from random import Random
from typing import Any

import tomli_w

TEXTS = (
    "",
    " ",
    "nan",
    "-1",
    "../../../etc/passwd",
    "/dev/zero",
    "a\nb",
    "\x1b[2J\x1b]0;owned\x07",
    "\x00",
    "\u202egnp.\u2066",
    "\ud800",
    "日本" * 40,
    "x" * 5000,
    "%s%n{0}{x!r}",
    "os:system",
    "w0.5-d1",
)
NUMBERS: tuple[int | float, ...] = (
    *(0, 1, -1, 2, 7, 10, 0.5, -0.0, 1e-30, 1.0000001, 255, 2**31, 2**31 - 1, 2**32, 2**63, 2**64),
    *(-(2**63), 10**9, 10**30, 10**400, 1e308, float("nan"), float("inf"), float("-inf")),
)
TOKENS = (
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\x1b[31m", b"\r\n", b"\r", b"\n\n\n"),
    *(
        b'"',
        b"'",
        b"\\",
        b"{",
        b"[[[[",
        b"]",
        b",",
        b"\t",
        b"=",
        b"NaN",
        b"Infinity",
        b"-1",
        b"1e999",
    ),
    *(
        b"9" * 400,
        b"9" * 5000,
        b"[" * 3000,
        b'{"a":' * 3000,
        b"null",
        b"true",
        b"../",
        b"\x80" * 9,
        b"\xff" * 16,
    ),
)


def nested(depth: int, within: type) -> Any:
    """Lists or tables inside one another."""
    value: Any = 1
    for _ in range(depth):
        value = [value] if within is list else {"a": value}
    return value


def value(random: Random) -> Any:
    """Any one value that JSON can say, hostile ones among them."""
    kind = random.randrange(8)
    if kind == 0:
        return random.choice((None, True, False))
    if kind in (1, 2, 3):
        return random.choice(NUMBERS)
    if kind in (4, 5):
        return random.choice(TEXTS)
    if kind == 6:
        return random.choice(([], {}, [1, "a", None], {"": 1}, [[]] * 9, [0.5, 1.0], [1, 2, 3]))
    return nested(random.choice((3, 60, 400)), random.choice((list, dict)))


def mutate_bytes(random: Random, data: bytes) -> bytes:
    """A few changes of bytes: bits, spans removed, doubled or overwritten, the end cut off."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 5, 20))):
        place = random.randrange(len(changed) + 1)
        # The beginning of a file is where its structure is.
        place = random.choice((place, min(place, random.randrange(64))))
        span = random.choice((1, 1, 4, 16, 200))
        match random.randrange(7):
            case 0 if place < len(changed):
                changed[place] ^= 1 << random.randrange(8)
            case 1:
                changed[place : place + span] = random.randbytes(min(span, len(changed) - place))
            case 2:
                del changed[place : place + span]
            case 3:
                changed[place:place] = changed[place : place + span]
            case 4:
                changed[place:place] = random.choice(TOKENS)
            case 5:
                changed[place : place + span] = bytes(min(span, len(changed) - place))
            case _ if random.random() < 0.2:
                del changed[place:]
    return bytes(changed)


def mutate_tree(random: Random, tree: Any) -> Any:
    """A few changes of structure: keys removed, added or renamed, values of another type."""
    tree = copy.deepcopy(tree)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        places = list(_places(tree))
        if not places:
            return value(random)
        holder, key = random.choice(places)
        match random.randrange(6):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[random.choice((*TEXTS, "extra", key))] = value(random)
            case 1:
                holder.insert(key, copy.deepcopy(holder[key]))
            case 2 if isinstance(holder, dict):
                holder[random.choice(TEXTS)] = holder.pop(key)
            case 3 if len(places) > 1:
                holder[key] = copy.deepcopy(_at(random.choice(places)))
            case 4 if isinstance(holder[key], int | float):
                holder[key] = random.choice(NUMBERS)
            case _:
                holder[key] = value(random)
    return tree


def _places(tree: Any) -> Any:
    """Every (table or list, key) below a value."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, item in items if isinstance(tree, dict | list) else ():
        yield tree, key
        if isinstance(item, dict | list):
            yield from _places(item)


def _at(place: tuple[Any, Any]) -> Any:
    return place[0][place[1]]


def to_json(tree: Any) -> bytes:
    """JSON with whatever Python's reader takes: NaN, half characters."""
    return json.dumps(tree, ensure_ascii=False).encode(errors="surrogatepass")


def damage_json(random: Random, file: Path) -> None:
    """Change a JSON file, by bytes or by structure."""
    data = file.read_bytes()
    if random.random() < 0.3:
        file.write_bytes(mutate_bytes(random, data))
    else:
        file.write_bytes(to_json(mutate_tree(random, json.loads(data))))


def damage_toml(random: Random, file: Path) -> None:
    """Change a TOML file, by bytes or by structure; what TOML cannot say is left out."""
    data = file.read_bytes()
    if random.random() < 0.4:
        file.write_bytes(mutate_bytes(random, data))
        return
    changed = mutate_tree(random, tomllib.loads(data.decode()))
    file.write_bytes(to_toml(changed if isinstance(changed, dict) else {"model": changed}))


def to_toml(tree: dict[str, Any]) -> bytes:
    """TOML of a tree, as far as it can be said."""
    try:
        return tomli_w.dumps(_sayable(tree)).encode(errors="surrogatepass")
    except RecursionError:
        return b"deep = " + b"[" * 400 + b"]" * 400 + b"\n[model]\n[space]\n[train]\n[data]\n"


def _sayable(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {str(key): _sayable(item) for key, item in tree.items() if item is not None}
    if isinstance(tree, list):
        return [_sayable(item) for item in tree if item is not None]
    return tree


def damage_bytes(random: Random, file: Path) -> None:
    """Change a file by bytes."""
    file.write_bytes(mutate_bytes(random, file.read_bytes()))


def damage_tensors(random: Random, file: Path) -> None:
    """Change a safetensors file: its length field, its header, its values, its end."""
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, values = data[8 : 8 + size], data[8 + size :]
    match random.randrange(5):
        case 0:
            claimed = random.choice((0, 1, size - 1, size + 1, 10**8, 2**40, 2**63, 2**64 - 1))
            file.write_bytes(claimed.to_bytes(8, "little") + header + values)
            return
        case 1:
            header = mutate_bytes(random, header)
        case 2:
            values = mutate_bytes(random, values)
        case _:
            header = to_json(mutate_tree(random, json.loads(header)))
    file.write_bytes(len(header).to_bytes(8, "little") + header + values)
