"""Kinds of bad input: each damages a copy of real files and names the command that meets it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.commands import TINY
from tests.sealing import reseal
from tests.torture import mutate
from tests.torture.template import IMAGES

Arguments = list[str]
Damage = Callable[[Random, Path], None]

ANY_SOURCE = (("info",), ("info", "--plan"), ("frontier",), ("eval",), ("extract",))


@dataclass(frozen=True)
class Kind:
    """What a kind of case needs of the template, and how one is made in a copy of that."""

    parts: tuple[str, ...]
    make: Callable[[Random, Path], Arguments]


def _source(
    folder: str, files: Sequence[str], damage: Damage, commands: Sequence[tuple[str, ...]]
) -> Kind:
    """A run or an artifact one of whose files is damaged."""

    def make(random: Random, home: Path) -> Arguments:
        damage(random, home / folder / random.choice(files))
        if random.random() < 0.7:
            reseal(home / folder)
        first, *rest = random.choice(commands)
        return [first, folder, *rest, "--quiet"]

    return Kind((folder,), make)


def _data(files: Sequence[str], start: Sequence[str], damage: Damage) -> Kind:
    """Data that a training or a run is given."""

    def make(random: Random, home: Path) -> Arguments:
        chosen = random.choice(files)
        for other in files:
            if other != chosen:
                (home / other).unlink()
        damage(random, home / chosen)
        return [*start, f"--data={chosen}", "--quiet"]

    needed = [part for part in ("texts", "labels.toml") if any(part in s for s in start)]
    return Kind((*needed, *files), make)


def _image_file(random: Random, home: Path) -> Arguments:
    file = random.choice(sorted((home / "images").rglob("*.png")))
    if random.random() < 0.3:
        _as_jpeg(file)
    mutate.damage_bytes(random, file)
    storage = random.choice(((), ("--set=data.storage=stream", "--set=data.workers=0")))
    resize = random.choice(((), ("--set=data.image_size=8",)))
    return ["train", *TINY, *IMAGES, *storage, *resize, "--data=images", "--out=new", "--quiet"]


def _as_jpeg(file: Path) -> None:
    from PIL import Image

    with Image.open(file) as image:
        image.save(file, "JPEG")


def _spec(random: Random, home: Path) -> Arguments:
    mutate.damage_toml(random, home / "mine.toml")
    return ["train", "--config=mine.toml", "--set=train.updates=1", "--quiet"]


_PATHS = (
    *("train.lr", "train.updates", "train.epochs", "train.batch_size", "train.rule", "train.seed"),
    *("train.depth_weights", "train.lr_drops", "train.warmup", "train.distill", "train.clip"),
    *("space.width", "space.depth", "space", "model.config", "model.config.channels", "train"),
    *("model.config.blocks", "model.config.strides", "model.config.norm", "model.family"),
    *("model.config.stem_channels", "model.config.in_channels", "model.depth_order", "name"),
    *("model.pretrained", "model.factory", "model.axes.width", "data.source", "data", "data.path"),
    *("data.image_size", "data.crop_padding", "data.validation", "data.split_seed", "task"),
    *("train.submodel", "train.num_random", "train.accumulate", "model.config.num_classes"),
    *("data.workers", "train.recalibrate_samples", "train.precision", "train.momentum", ""),
)


def _override(random: Random, home: Path) -> Arguments:
    chosen = []
    for _ in range(random.choice((1, 1, 2, 4))):
        path = random.choice(_PATHS)
        if random.random() < 0.1:
            path += random.choice((".x", ".", "..", *mutate.TEXTS))
        value = mutate.value(random)
        if random.random() < 0.8 and value is not None:
            text = mutate.to_toml({"value": value}).decode(errors="replace").partition("=")[2]
        else:
            text = str(value)
        chosen.append(f"--set={path}={text}")
    return ["train", *TINY[:1], "--set=train.updates=1", *TINY[2:], *chosen, "--quiet"]


_BOUNDS = ("--max-params", "--max-macs", "--max-latency-ms", "--max-size-mb", "--max-memory-mb")
_COMMANDS = {
    "train": ("--preset", "--config", "--set", "--data", "--out", "--resume", "--device"),
    "eval": ("--width", "--depth", "--axis", "--all", "--data", "--split", "--device"),
    "frontier": ("--cost", *_BOUNDS, "--plot"),
    "extract": ("--width", "--depth", "--axis", *_BOUNDS, "--out", "--format"),
    "generate": ("--prompt", "--mode", "--max-new-tokens", "--stop", "--temperature", "--top-p"),
    "presets": ("list", "show", "digits-resnet"),
    "info": ("--plan", "--width", "--depth", "--axis"),
}
_SAID = (
    *("0.5", "1", "8", "digits-resnet", "run", "texts", "cut", "speculative", "test", "w0.5-d1"),
    *(
        "--json",
        "--quiet",
        "--verbose",
        "params",
        "200k",
        "1.5M",
        "nan",
        "inf",
        "-inf",
        "-5",
        "1e999",
    ),
    *("width=0.5", "depth=nan", "=", "cpu", "cuda:99", ".", "/", "9" * 400, "--", "-", "-x", "٣"),
    *("a.svg", "no/a.svg", "onnx", "train.lr=1", "nowhere", "--help=1", "0x10", "1_000", "true"),
)
_FLAGS = ("--all", "--resume", "--plan", "--json", "list", "show", "digits-resnet")


def _command_line(random: Random, home: Path) -> Arguments:
    name = random.choice(sorted(_COMMANDS))
    options = (*_COMMANDS[name], "--json", "--allow-factory")
    said = [name, *random.choice(((), ("run",), ("texts",), ("cut",)))]
    for _ in range(random.randrange(6)):
        option = random.choice(options)
        if random.random() < 0.1:
            option = random.choice((*(o for row in _COMMANDS.values() for o in row), *_SAID))
        said.append(option)
        if option not in _FLAGS and random.random() < 0.95:
            said.append(random.choice((*_SAID, *mutate.TEXTS)))
    return [text.replace("\x00", "0") for text in said]  # no shell can pass a zero byte


_RUN_JSON = ("run.json", "frontier.json")
_HALF = (("train", "--resume"), ("info",))
_GENERATE = (
    ("generate", "--prompt=red house", "--max-new-tokens=3", "--mode=early-exit"),
    ("generate", "--prompt=red house", "--max-new-tokens=3"),
    ("eval",),
)
_TRAIN_IMAGES = ("train", *TINY, *IMAGES, "--out=new")
_LABEL = ("train", "--config=labels.toml", "--out=new")

KINDS: dict[str, Kind] = {
    "command line": Kind(("run", "texts", "cut"), _command_line),
    "override": Kind((), _override),
    "spec": Kind(("mine.toml",), _spec),
    "spec of a run": _source("run", ["spec.toml"], mutate.damage_toml, ANY_SOURCE),
    "json of a run": _source("run", _RUN_JSON, mutate.damage_json, ANY_SOURCE),
    "json of a run on texts": _source("texts", _RUN_JSON, mutate.damage_json, ANY_SOURCE),
    "tensors of a run": _source(
        "run", ["weights.safetensors", "statistics.safetensors"], mutate.damage_tensors, ANY_SOURCE
    ),
    "json of an artifact": _source(
        "cut", ["sortednet.json", "config.json"], mutate.damage_json, ANY_SOURCE
    ),
    "tensors of an artifact": _source(
        "cut", ["model.safetensors"], mutate.damage_tensors, (("eval",), ("extract",))
    ),
    "checkpoint": _source(
        "half",
        ["checkpoints/step-3/weights.safetensors", "checkpoints/step-3/optimizer.safetensors"],
        mutate.damage_tensors,
        (("train", "--resume"),),
    ),
    "json of a checkpoint": _source(
        "half", ["checkpoints/step-3/counters.json", "run.json"], mutate.damage_json, _HALF
    ),
    "pointer and log": _source(
        "half", ["checkpoints/latest", "metrics.jsonl"], mutate.damage_bytes, _HALF
    ),
    "stock checkpoint": _source(
        "stock", ["config.json"], mutate.damage_json, (("extract",), ("info", "--plan"))
    ),
    "tokenizer": _source(
        "texts",
        ["tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"],
        mutate.damage_json,
        _GENERATE,
    ),
    "exits": _source("texts", ["decoding.json"], mutate.damage_json, _GENERATE[:1]),
    "image": Kind(("images",), _image_file),
    "tar": _data(
        ["images.tar", "images.tar.gz", "images.tar.xz"], _TRAIN_IMAGES, mutate.damage_bytes
    ),
    "rows": _data(["rows.csv", "rows.tsv", "rows.jsonl"], _LABEL, mutate.damage_bytes),
    "parquet": _data(["rows.parquet"], _LABEL, mutate.damage_bytes),
    "plain text": _data(["plain.txt"], ("eval", "texts"), mutate.damage_bytes),
}


def make_case(
    kind: str, number: int, seed: int, home: Callable[[Sequence[str]], Path]
) -> tuple[Path, Arguments]:
    """Prepare one case: a pure function of kind, number and seed."""
    random = Random(f"{seed}/{kind}/{number}")
    folder = home(KINDS[kind].parts)
    return folder, KINDS[kind].make(random, folder)
