"""An opened stock transformers checkpoint, out of which sub-models can be cut."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from sortednet_cli.data import ImageFormat, InputFormat, TextFormat
from sortednet_cli.engine.sources.preprocessor import read_normalisation
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
from sortednet_cli.spec import AnyDataSpec, ImageDataSpec, TextDataSpec
from sortednet_cli.storage.hub import name_of
from sortednet_cli.storage.pretrained import open_pretrained
from sortednet_cli.storage.tensors import TensorFiles, equal_blocks, open_tensors

MAX_TOKENS = 2048
"""Longest sequence for costs and checks: many models have far more positions."""


@dataclass(frozen=True)
class StockCheckpoint(Source):
    """A folder that `save_pretrained` wrote. It was not trained as a nested network.

    Its search space has every depth and every legal width.

    Attributes:
        files: the safetensors files that hold the weights.
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
        RequestError: its class is not supported, or its files are damaged.
    """
    pretrained = open_pretrained(str(path))
    stock, where = pretrained.config, f"{path}: config.json"
    architecture, task = _find_architecture(stock, where)
    classes: tuple[str, ...] = ()
    if task == "classification" and (labels := stock.get("id2label")):
        classes = class_names(labels, stock.get("label2id"), where)
    standard = standard_config(architecture.name, stock, where)
    if task == "classification" and not classes:
        classes = tuple(standard["id2label"].values())
    inputs = _input_format(path, architecture, task, standard, classes)
    config = complete_config(architecture.name, task, {}, inputs.facts(), standard)
    root = Root(architecture.name, config, "prefix")
    family, names = _match_tensors(path, root, pretrained.files, inputs)
    return StockCheckpoint(
        path=path,
        name=path.resolve().name,
        family=family,
        space=_full_space(architecture, config),
        format=inputs,
        data=_data_of(inputs),
        rows={},
        base_model=name_of(path),
        files=pretrained.files,
        names=names,
    )


def _find_architecture(stock: Config, where: str) -> tuple[Architecture, str]:
    """Find the architecture and the task of a checkpoint's class; RequestError if unsupported."""
    name, model_type = class_of(stock), stock.get("model_type")
    classes: list[str] = []
    for architecture in architectures():
        for task, head in architecture.heads.items():
            if (architecture.name, head.class_name) == (model_type, name):
                return architecture, task
            classes.append(head.class_name)
    raise RequestError(
        f"{where}: {name or 'no class'} of model_type {model_type!r} is not supported;"
        f" the supported classes are {listed(dict.fromkeys(classes))}"
    )


def _match_tensors(
    path: Path, root: Root, paths: tuple[Path, ...], inputs: InputFormat
) -> tuple[TransformerFamily, dict[str, str]]:
    """Open the root network, and find the stored name of each of its tensors.

    If the configuration ties two tensors but the files hold different values, they are left
    untied, as transformers does.

    Raises:
        RequestError: a tensor is missing, unknown or misshapen.
    """
    family = _open(root, inputs, where=f"{path}: config.json")
    skeleton = build_skeleton(family, root.config)
    with open_tensors(*paths) as files:
        shapes = {name: tuple(files.slices(name).get_shape()) for name in files.names}
        matched = family.match_names(skeleton, shapes, str(path))
        if matched.missing:
            wrong = listed(matched.missing)
            raise RequestError(f"{path} does not fit {family.loader}: missing or misshapen {wrong}")
        untied = [
            pair for pair in matched.stored_twice if not _are_equal(files, matched.names, pair)
        ]
    if untied:
        logger.info("%s: %s and %s differ, so they are not tied", path, *untied[0])
        config = {**root.config, "tie_word_embeddings": False}
        family = _open(replace(root, config=config), inputs, where=str(path))
    return family, matched.names


def _open(root: Root, inputs: InputFormat, where: str) -> TransformerFamily:
    family = open_root(root, (), inputs, where=where)
    assert isinstance(family, TransformerFamily)
    return family


def _are_equal(
    files: TensorFiles,
    names: Mapping[str, str],
    pair: tuple[str, str],
) -> bool:
    one, other = (names[name] for name in pair)
    return files.dtype(one) == files.dtype(other) and equal_blocks(
        files.blocks(one), files.blocks(other)
    )


def _input_format(
    path: Path, architecture: Architecture, task: str, config: Config, classes: tuple[str, ...]
) -> InputFormat:
    """Read the input format from a standard configuration."""
    if architecture.inputs == "image":
        return _image_format(path, config, classes)
    pad, bos, eos = (_token_id(config, role, path) for role in ("pad", "bos", "eos"))
    try:
        vocab = entry(config, "vocab_size", int)
        positions = entry(config, architecture.position_count, int)
    except RequestError as error:
        raise RequestError(f"{path}: config.json: {error}") from error
    length = min(MAX_TOKENS, positions - architecture.first_position(pad or 0))
    if length < 1:
        raise RequestError(
            f"{path}: config.json: {architecture.position_count} {positions} leaves no position"
        )
    return TextFormat(task, vocab, length, classes, pad or 0, bos, eos, path.resolve().name)


def _image_format(path: Path, config: Config, classes: tuple[str, ...]) -> ImageFormat:
    """Read the format of images from a standard configuration and the file of the processor."""
    try:
        channels, size = (entry(config, key, int) for key in ("num_channels", "image_size"))
    except RequestError as error:
        raise RequestError(f"{path}: config.json: {error}") from error
    mean, std = read_normalisation(path, channels)
    name = path.resolve().name
    return ImageFormat(channels, size, len(classes), classes, mean, std, name)


def _data_of(inputs: InputFormat) -> AnyDataSpec:
    if isinstance(inputs, TextFormat):
        return TextDataSpec(source="text", max_length=max(8, inputs.max_length))
    assert isinstance(inputs, ImageFormat)
    return ImageDataSpec(source="image-folder", image_size=inputs.image_size)


def _token_id(config: Config, role: str, path: Path) -> int | None:
    """Read a token id; None if there is none, for which some configurations say -1."""
    token = config.get(f"{role}_token_id")
    if isinstance(token, list):
        token = token[0] if token else None
    if not isinstance(token, int | None):
        raise RequestError(f"{path}: config.json: {role}_token_id: {token!r} is not a token id")
    return None if token is None or token < 0 else token


def _full_space(architecture: Architecture, config: Config) -> SearchSpace:
    """Make the search space of every depth and every width with whole numbers of heads."""
    parts = math.gcd(*(config[key] for key in architecture.scales["width"] if config.get(key)))
    layers = config[architecture.layer_count]
    if (count := parts * layers) > MAX_SUBMODELS:
        raise RequestError(f"config.json: {count:,} sub-models, more than {MAX_SUBMODELS:,}")
    widths = [part / parts for part in range(1, parts + 1)]
    return SearchSpace.of({"width": widths, "depth": range(1, layers + 1)})
