"""A run or an artifact, opened: the two things that sub-models are cut out of."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import nn

from sortednet_cli.data import Dataset, ImageFormat, InputFormat, TextFormat, open_data
from sortednet_cli.engine.generation import Decoder
from sortednet_cli.engine.sources.table import Metrics, Row
from sortednet_cli.engine.training.optimizer import place
from sortednet_cli.errors import RequestError, reason_of
from sortednet_cli.families import REFUSALS, Config, Family, Root, open_family
from sortednet_cli.families.stock_configs import end_tokens, generation_config
from sortednet_cli.nesting import (
    NestedNetwork,
    SlicePlan,
    build_skeleton,
    cost_of,
    init_network,
    plan_between,
    plan_from_root,
)
from sortednet_cli.nesting.skeleton import statistic_names
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import AnyDataSpec
from sortednet_cli.storage.artifact import ArtifactFolder
from sortednet_cli.storage.checks import Checks
from sortednet_cli.storage.manifest import (
    ArtifactManifest,
    RunManifest,
    StoredFormat,
    StoredTextFormat,
)
from sortednet_cli.storage.run import RunFolder
from sortednet_cli.storage.sources import (
    StoredSource,
    check_causal,
    data_at,
    read_artifact,
    read_run,
)
from sortednet_cli.storage.tensors import TensorFiles, open_tensors, read_tensors
from sortednet_cli.tasks import Task, make_task


@dataclass(frozen=True)
class Source(ABC):
    """What a run and an artifact have in common.

    Attributes:
        path: the folder.
        name: the run's name, for people and file names.
        family: rules of the root network.
        space: the sub-models that can be cut out of it.
        format: what the model must know of its inputs.
        data: where its data came from.
        rows: the stored table of sub-models.
        checks: checksums of its files, where it has them.
        channels_last: whether it was trained in that memory format.
    """

    path: Path
    name: str
    family: Family
    space: SearchSpace
    format: InputFormat
    data: AnyDataSpec
    rows: Mapping[SubModel, Row] = field(repr=False)
    checks: Checks | None = field(default=None, repr=False, compare=False)
    channels_last: bool = False

    @classmethod
    def of(cls, stored: StoredSource, allowed: Collection[str] = ()) -> Self:
        """Open what was read of a run or an artifact.

        Raises:
            RequestError: its network cannot be built, or its factory is not allowed.
        """
        manifest, space = stored.manifest, stored.space
        assert manifest is not None and space is not None
        rows = [Row.read(row) for row in stored.rows]
        return cls(
            path=stored.path,
            name=stored.name,
            family=read_family(manifest, stored.path, allowed),
            space=space,
            format=read_format(manifest.data),
            data=stored.data,
            rows={row.submodel: row for row in rows},
            checks=stored.checks,
            channels_last=stored.channels_last,
        )

    def verify_weights(self) -> None:
        """RequestError if a bit of the weights is another one than was written."""
        if self.checks is not None:
            self.checks.verify(*self.weight_files)

    @property
    @abstractmethod
    def weight_files(self) -> tuple[Path, ...]:
        """The safetensors files that hold the weights together."""

    @contextmanager
    def open_weights(self) -> Iterator[TensorFiles]:
        """Open `weight_files`, their tensors by the names that `plan` gives them."""
        with open_tensors(*self.weight_files) as files:
            yield files

    @abstractmethod
    def plan(self, submodel: SubModel) -> SlicePlan:
        """Plan a sub-model as slices of the tensors of `open_weights`."""

    @abstractmethod
    def network(
        self, device: torch.device | str = "cpu", *, channels_last: bool = False
    ) -> NestedNetwork:
        """Load the weights as a nested network, its sub-models in eval mode by statistics."""

    @property
    def stem(self) -> str:
        """What the names of artifacts cut from it begin with."""
        return self.name

    @property
    def task(self) -> Task:
        return task_of(self.format)

    @property
    @abstractmethod
    def tokenizer(self) -> Path:
        """The folder with its tokenizer, where its inputs are texts."""

    @property
    def generation(self) -> Config:
        """What a causal model generates by, as `generation_config.json` says it."""
        return generation_config(self.tokenizer, self.family.root.config)

    def row(self, submodel: SubModel, metrics: Mapping[str, Metrics]) -> Row:
        """A row with new metrics; its costs are taken from the table or counted."""
        known = self.rows.get(submodel)
        if known is not None:
            return replace(known, metrics=metrics)
        cost = cost_of(self.family, submodel, self.format.random_inputs, self.format.num_units)
        return Row(submodel, cost.params, cost.macs, metrics)

    def decoder(self, submodel: SubModel | None = None, /, **axes: int | float) -> Decoder:
        """A decoder of a causal model: the largest sub-model unless axes are named.

        Raises:
            RequestError: the model is no causal one, or there is no such sub-model.
        """
        return make_decoder(self, submodel or self.space.resolve(axes))

    def open_data(self, path: str | None = None) -> Dataset:
        """Open the data that scores it: `path`, or where the run's data was."""
        data = data_at(self.data, path)
        return open_data(data, self.format.task, known=self.format, tokenizer=self.tokenizer)


class LoadedRun(Source):
    """A finished run."""

    @property
    def stem(self) -> str:
        return self.path.name

    @property
    def weight_files(self) -> tuple[Path, ...]:
        return (RunFolder(self.path).weights,)

    @property
    def tokenizer(self) -> Path:
        return RunFolder(self.path).tokenizer

    def plan(self, submodel: SubModel) -> SlicePlan:
        return plan_from_root(self.family, submodel)

    def network(
        self, device: torch.device | str = "cpu", *, channels_last: bool = False
    ) -> NestedNetwork:
        statistics = RunFolder(self.path).statistics
        self.verify_weights()
        if self.checks is not None:
            self.checks.verify(statistics)
        check_weights(self.family, self.family.root.config, self.weight_files)
        module = init_network(self.family, seed=0)
        load_weights(module, self.weight_files)
        stored = read_statistics(statistics, self._most_statistics())
        self._check_statistics(stored)
        place(module.eval(), torch.device(device), channels_last)
        return NestedNetwork(self.family, self.space, module, stored)

    def _most_statistics(self) -> int:
        """Bytes that the statistics of all sub-models have at most."""
        skeleton = build_skeleton(self.family, self.family.shrink(self.space.largest))
        buffers = dict(skeleton.named_buffers())
        return len(self.space) * sum(buffers[name].nbytes for name in statistic_names(skeleton))

    def _check_statistics(self, stored: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """RequestError unless there are statistics for each sub-model; two are looked into."""
        for submodel in (self.space.smallest, self.space.largest):
            skeleton = build_skeleton(self.family, self.family.shrink(submodel))
            buffers = dict(skeleton.named_buffers())
            wanted = {name: buffers[name].shape for name in statistic_names(skeleton)}
            found = {name: t.shape for name, t in stored.get(submodel.name, {}).items()}
            names = {s.name for s in self.space.submodels} if wanted else set()
            if found != wanted or set(stored) != names:
                raise RequestError(
                    f"{RunFolder(self.path).statistics} does not belong here:"
                    " it does not hold the normalisation statistics of each sub-model"
                )


class LoadedArtifact(Source):
    """A standalone sub-model; what is nested in it can be cut out again."""

    @property
    def weight_files(self) -> tuple[Path, ...]:
        return ArtifactFolder(self.path).weight_files

    @property
    def tokenizer(self) -> Path:
        return self.path

    @property
    def submodel(self) -> SubModel:
        return self.space.largest

    def plan(self, submodel: SubModel) -> SlicePlan:
        return plan_between(self.family, self.submodel, submodel)

    def module(self) -> nn.Module:
        """The standalone module itself, in eval mode."""
        config = self.family.shrink(self.submodel)
        self.verify_weights()
        check_weights(self.family, config, self.weight_files)
        module = self.family.build(config)
        load_weights(module, self.weight_files)
        return module.eval()

    def network(
        self, device: torch.device | str = "cpu", *, channels_last: bool = False
    ) -> NestedNetwork:
        module = place(self.module(), torch.device(device), channels_last)
        stored = {self.submodel.name: dict(module.named_buffers())}
        return NestedNetwork(self.family, self.space, module, stored, outer=self.submodel)


def load_run(path: Path | str, *, allow_factory: Collection[str] = ()) -> LoadedRun:
    """Open a finished run: `load_run("runs/digits-resnet").network().at(width=0.5)`."""
    return LoadedRun.of(read_run(Path(path)), allow_factory)


def load_artifact(path: Path | str, *, allow_factory: Collection[str] = ()) -> LoadedArtifact:
    """Open an artifact: `load_artifact(folder).module()` is the standalone module."""
    return LoadedArtifact.of(read_artifact(Path(path)), allow_factory)


def make_decoder(
    source: Source, submodel: SubModel, device: torch.device | str = "cpu", precision: str = "fp32"
) -> Decoder:
    """Make a decoder of a sub-model, its weights in `fp32` or `bf16`."""
    require_causal(source)
    module = source.network(device).at(submodel).eval()
    if precision == "bf16":
        for parameter in module.parameters():  # buffers stay: rotations are made in float32
            parameter.data = parameter.data.to(torch.bfloat16)
    depths = dict(source.space.axes).get("depth", ())
    return Decoder(module, [int(depth) for depth in depths], end_tokens(source.generation))


def require_causal(source: Source) -> TextFormat:
    """Return the form of a source's texts; RequestError unless its model continues them."""
    check_causal(source.path, source.format.task)
    assert isinstance(source.format, TextFormat)
    return source.format


def task_of(inputs: InputFormat, label_smoothing: float = 0.0) -> Task:
    """The task of a model that takes such inputs."""
    return make_task(inputs.task, inputs.kind, inputs.output_shape(1)[-1], label_smoothing)


def root_fields(family: Family, inputs: InputFormat) -> dict[str, Any]:
    """What run and artifact manifests store of the root network and its inputs."""
    stored = asdict(cast(ImageFormat | TextFormat, inputs))
    return {"root": asdict(family.root), "data": stored}


def read_family(
    manifest: RunManifest | ArtifactManifest, path: Path, allowed: Collection[str]
) -> Family:
    """Open the family of a run or an artifact at `path`."""
    root = Root(**manifest.root.model_dump())
    inputs = read_format(manifest.data)
    return open_root(root, allowed, inputs, where=f"the root network in the manifest of {path}")


def open_root(root: Root, allowed: Collection[str], inputs: InputFormat, *, where: str) -> Family:
    """Open a family, and try its root network without memory.

    Raises:
        RequestError: the configuration is none of the family, or the network does not take
            such inputs or give one number for each class or token.
    """
    try:
        family = open_family(root, allowed)
        family.shrink(SubModel(()))  # entries that nothing but a cut looks at
        with torch.device("meta"), torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
            module = family.build(family.root.config).eval()
            if empty := [name for name, p in module.named_parameters() if not p.numel()]:
                raise ValueError(f"{empty[0]} would have no elements")
            outputs = family.forward(module, inputs.random_inputs(1))
    except REFUSALS as error:
        raise RequestError(f"{where}: {root.family} refused it: {reason_of(error)}") from error
    shape, wanted = list(getattr(outputs, "shape", ())), list(inputs.output_shape(1))
    # A model may have more tokens than its tokenizer, but no other number of classes.
    spare = shape[-1] > wanted[-1] if shape and not inputs.classes else False
    if shape[:-1] != wanted[:-1] or (shape[-1:] != wanted[-1:] and not spare):
        raise RequestError(
            f"{where}: outputs have the shape {shape} for one sample instead of"
            f" {wanted}; check num_classes"
        )
    return family


def read_format(stored: StoredFormat | StoredTextFormat) -> InputFormat:
    kind = ImageFormat if isinstance(stored, StoredFormat) else TextFormat
    return kind(**stored.model_dump())


def read_statistics(path: Path, most: int) -> dict[str, dict[str, torch.Tensor]]:
    """Read the statistics of all sub-models: names in the file are `sub-model/tensor`.

    Raises:
        RequestError: the file is damaged, or holds more than `most` bytes of values.
    """
    statistics: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in read_tensors(path, most=most).items():
        submodel, _, name = key.partition("/")
        statistics.setdefault(submodel, {})[name] = tensor
    return statistics


def check_weights(family: Family, config: Config, paths: tuple[Path, ...]) -> None:
    """Hold stored tensors against a configuration before memory is taken for either.

    Raises:
        RequestError: the files are damaged, or their tensors are not the configuration's.
    """
    with open_tensors(*paths) as files:
        _check_fit(build_skeleton(family, config), files, paths)


def _check_fit(module: nn.Module, files: TensorFiles, paths: tuple[Path, ...]) -> None:
    own = module.state_dict()
    where = paths[0] if len(paths) == 1 else paths[0].parent
    for name in files.names:
        if name not in own or tuple(own[name].shape) != tuple(files.slices(name).get_shape()):
            raise RequestError(f"{where} does not belong here: {name} does not fit the model")
    missing = {name for name, _ in module.named_parameters()} - set(files.names)
    if missing:
        raise RequestError(f"{where} does not belong here: it holds no tensor {min(missing)!r}")


def load_weights(module: nn.Module, paths: tuple[Path, ...]) -> None:
    """Copy stored tensors into a module; its own statistics may be absent from the files."""
    with open_tensors(*paths) as files:
        _check_fit(module, files, paths)
        stored = {name: files.read(name) for name in files.names}
    module.load_state_dict(stored, strict=False)
