"""A stock transformers checkpoint, opened: sub-models can be cut out of it as out of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from sortednet_cli.data import TextFormat
from sortednet_cli.engine.sources.root import open_root
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.errors import RequestError, listed
from sortednet_cli.families import Config, Root
from sortednet_cli.families.root import entry
from sortednet_cli.families.transformers.architecture import Architecture, architectures
from sortednet_cli.families.transformers.complete import class_of, complete_config
from sortednet_cli.families.transformers.family import TransformerFamily
from sortednet_cli.families.transformers.stock_configs import class_names, standard_config
from sortednet_cli.logs import logger
from sortednet_cli.nesting import (
    NestedNetwork,
    SlicePlan,
    build_skeleton,
    init_network,
    plan_from_root,
)
from sortednet_cli.space import MAX_SUBMODELS, SearchSpace, SubModel
from sortednet_cli.spec import TextDataSpec
from sortednet_cli.storage.pretrained import open_pretrained
from sortednet_cli.storage.tensors import TensorFiles, equal_blocks, open_tensors

MOST_TOKENS = 2048
"""Length of a sequence at most, for costs and checks: positions reach further in many."""


@dataclass(frozen=True)
class StockCheckpoint(Source):
    """A folder as `save_pretrained` writes it; it was not trained to be cut.

    Its search space is every depth and every legal width.

    Attributes:
        files: hold the weights.
        names: the stored name of each tensor of the root network.
    """

    files: tuple[Path, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def weight_files(self) -> tuple[Path, ...]:
        return self.files

    @property
    def tokenizer(self) -> Path:
        return self.path

    @contextmanager
    def open_weights(self) -> Iterator[TensorFiles]:
        with super().open_weights() as files:
            yield files.renamed(self.names)

    def plan(self, submodel: SubModel) -> SlicePlan:
        return plan_from_root(self.family, submodel)

    def network(
        self, device: torch.device | str = "cpu", *, channels_last: bool = False
    ) -> NestedNetwork:
        module = init_network(self.family, seed=0)
        with self.open_weights() as files:
            stored = {name: files.read(name) for name, _ in module.named_parameters()}
        module.load_state_dict(stored, strict=False)
        return NestedNetwork(self.family, self.space, module.eval().to(device))


def load_stock(path: Path) -> StockCheckpoint:
    """Open a stock checkpoint.

    Raises:
        RequestError: its class is none that can be cut, or its files are damaged.
    """
    pretrained = open_pretrained(str(path))
    stock, where = pretrained.config, f"{path}: config.json"
    architecture, task = _architecture_of(stock, where)
    classes: tuple[str, ...] = ()
    if task == "classification" and (named := stock.get("id2label")):
        classes = class_names(named, stock.get("label2id"), where)
    read = standard_config(architecture.name, stock, where)
    if task == "classification" and not classes:
        classes = tuple(read["id2label"].values())
    inputs = _format(path, architecture, task, read, classes)
    config = complete_config(architecture.name, task, {}, inputs.facts(), read)
    root = Root(architecture.name, config, "prefix")
    opened, names = _fitted(path, root, pretrained.files, inputs)
    return StockCheckpoint(
        path=path,
        name=path.resolve().name,
        family=opened,
        space=_every_point(architecture, config),
        format=inputs,
        data=TextDataSpec(source="text", max_length=max(8, inputs.max_length)),
        rows={},
        files=pretrained.files,
        names=names,
    )


def _architecture_of(stock: Config, where: str) -> tuple[Architecture, str]:
    """Find what a checkpoint's class is declared as, and its task; RequestError if nowhere."""
    name, model_type = class_of(stock), stock.get("model_type")
    classes: list[str] = []
    for architecture in architectures():
        for task, head in architecture.heads.items():
            if (architecture.name, head.class_name) == (model_type, name):
                return architecture, task
            classes.append(head.class_name)
    raise RequestError(
        f"{where}: {name or 'no class'} of model_type {model_type!r} cannot be cut;"
        f" {listed(dict.fromkeys(classes))} can"
    )


def _fitted(
    path: Path, root: Root, paths: tuple[Path, ...], inputs: TextFormat
) -> tuple[TransformerFamily, dict[str, str]]:
    """Open the root network, and find the stored name of each of its tensors.

    Tensors that the configuration ties but the files hold with different values stay apart, as
    transformers leaves them.
    """
    family = _open(root, inputs, where=f"{path}: config.json")
    skeleton = build_skeleton(family, root.config)
    with open_tensors(*paths) as files:
        shapes = {name: tuple(files.slices(name).get_shape()) for name in files.names}
        found = family.matched_names(skeleton, shapes, str(path))
        if found.fresh:
            wrong = listed(found.fresh)
            raise RequestError(f"{path} does not fit {family.loader}: missing or misshapen {wrong}")
        apart = [pair for pair in found.twice if not _are_equal(files, found.names, shapes, pair)]
    if apart:
        logger.info("%s: not tied, for they differ: %s and %s", path, *apart[0])
        config = {**root.config, "tie_word_embeddings": False}
        family = _open(replace(root, config=config), inputs, where=str(path))
    return family, found.names


def _open(root: Root, inputs: TextFormat, where: str) -> TransformerFamily:
    family = open_root(root, (), inputs, where=where)
    assert isinstance(family, TransformerFamily)
    return family


def _are_equal(
    files: TensorFiles,
    names: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    pair: tuple[str, str],
) -> bool:
    one, other = (names[name] for name in pair)
    return files.dtype(one) == files.dtype(other) and equal_blocks(
        files.blocks(one, shapes[one]), files.blocks(other, shapes[other])
    )


def _format(
    path: Path, architecture: Architecture, task: str, read: Config, classes: tuple[str, ...]
) -> TextFormat:
    pad, bos, eos = (_token(read, role, path) for role in ("pad", "bos", "eos"))
    try:
        vocab = entry(read, "vocab_size", int)
        positions = entry(read, "max_position_embeddings", int)
    except RequestError as error:
        raise RequestError(f"{path}: config.json: {error}") from error
    length = min(MOST_TOKENS, positions - architecture.first_position(pad or 0))
    if length < 1:
        raise RequestError(
            f"{path}: config.json: max_position_embeddings {positions} leaves no position"
        )
    return TextFormat(task, vocab, length, classes, pad or 0, bos, eos, path.resolve().name)


def _token(read: Config, role: str, path: Path) -> int | None:
    """The number of a token; some configurations say -1 where there is no such token."""
    found = read.get(f"{role}_token_id")
    if isinstance(found, list):
        found = found[0] if found else None
    if not isinstance(found, int | None):
        raise RequestError(
            f"{path}: config.json: {role}_token_id: {found!r} is no number of a token"
        )
    return None if found is None or found < 0 else found


def _every_point(architecture: Architecture, config: Config) -> SearchSpace:
    parts = math.gcd(*(config[key] for key in architecture.scales["width"] if config.get(key)))
    if (count := parts * config["num_hidden_layers"]) > MAX_SUBMODELS:
        raise RequestError(f"config.json: {count:,} sub-models, more than {MAX_SUBMODELS:,}")
    widths = [part / parts for part in range(1, parts + 1)]
    return SearchSpace.of({"width": widths, "depth": range(1, config["num_hidden_layers"] + 1)})
