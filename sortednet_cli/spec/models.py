"""The spec of a run, as frozen pydantic models that reject unknown keys."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from sortednet_cli.errors import listed, suggestion
from sortednet_cli.space import MAX_SUBMODELS
from sortednet_cli.spec.data import AnyDataSpec, data_kind
from sortednet_cli.spec.families import family_facts, is_family, own_families, unknown_family
from sortednet_cli.spec.fields import (
    AxisName,
    AxisValue,
    PlainName,
    SpecModel,
)
from sortednet_cli.spec.train import TrainSpec
from sortednet_cli.spec.vocabulary import FRACTIONS, STORED

Task = Literal["classification", "masked-lm", "causal-lm", "answers"]


def _known_family(name: object) -> object:
    if not is_family(name):
        raise ValueError(unknown_family(name))
    return name


class CustomAxis(SpecModel):
    """How one axis of a `custom` model changes the factory's arguments: by exactly one key."""

    scales: tuple[str, ...] = ()
    """Arguments, numbers or lists of numbers, that are multiplied by the axis value and rounded."""
    sets: str | None = None
    """One argument that takes the axis value itself."""
    stages: str | None = None
    """One argument that lists the blocks of each stage; `depth_order` decides which are removed."""

    @model_validator(mode="after")
    def _has_one_key(self) -> Self:
        if sum(bool(key) for key in (self.scales, self.sets, self.stages)) != 1:
            raise ValueError("needs exactly one of scales, sets, stages")
        return self

    @property
    def arguments(self) -> dict[str, tuple[str, ...]]:
        """The factory's arguments that the axis changes, by verb."""
        single = {"sets": self.sets, "stages": self.stages}
        return {"scales": self.scales, **{verb: (name,) for verb, name in single.items() if name}}


def _counts(value: object) -> object:
    numbers = value if isinstance(value, list | tuple) else [value]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("a whole number from 0 up, or a list of them, one for each of `paths`")
    return value


Counts = Annotated[int | tuple[int, ...], BeforeValidator(_counts)]
"""A number for every container, or one for each."""


class CustomBlocks(SpecModel):
    """Where the factory's module holds its blocks.

    A container may be a `Sequential` that also holds a stem or a tail, which `before` and `after`
    count.
    """

    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    """The container of blocks of each stage, as a path in the module: `["body"]`."""
    before: Counts = 0
    """Number of modules at the start of every container that are not blocks, or a list of them."""
    after: Counts = 0
    """Number of modules at the end of every container that are not blocks, or a list of them."""

    @model_validator(mode="after")
    def _one_count_for_each_path(self) -> Self:
        for name in ("before", "after"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != len(self.paths):
                raise ValueError(f"{name} lists {len(value)}, paths lists {len(self.paths)}")
        return self


class CustomFused(SpecModel):
    """The parts that a tensor of a `custom` model holds one after another."""

    parts: Annotated[tuple[int, ...], Field(min_length=1)]
    """The sizes of the parts in proportion: `[2, 1, 1]`. A number means that many equal ones."""
    dim: Annotated[int, Field(ge=0)] = 0
    """The dimension of a weight along which the parts lie; a bias has only one."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: object) -> object:
        given = value if isinstance(value, dict) else {"parts": value}
        parts = given.get("parts")
        return {**given, "parts": [1] * parts} if type(parts) is int and parts < 1000 else given

    @field_validator("parts")
    @classmethod
    def _positive(cls, parts: tuple[int, ...]) -> tuple[int, ...]:
        if min(parts, default=1) < 1:
            raise ValueError("sizes must be positive")
        return parts


class ModelSpec(SpecModel):
    """The table `[model]`: the family and the stock configuration of the root network."""

    family: Annotated[str, BeforeValidator(_known_family)]
    """The family of models, such as `preact_resnet` or `llama`."""
    name: str | None = None
    """For `timm`: the model's name, such as `vit_tiny_patch16_224`."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the stock class, or of the factory, for the root network."""
    depth_order: Literal["prefix", "balanced", "late-first"] | None = None
    """The order in which depth removes blocks; by default the first that the family allows."""
    init: Literal["stock", "nested", "nested-identity"] = "stock"
    """First weights: the stock class's, or with zeros that give all widths the same features."""
    norms: Literal["shared", "by-width"] = "shared"
    """Scales and shifts of norms: slices of the same ones for all widths, or each width's own."""
    pretrained: str | None = None
    """What to start from: a folder, `package:NAME/FOLDER`, a hub name, or a file of weights."""
    reorder: Literal["importance", "activation", "none"] = "none"
    """Sort heads, units or channels of pretrained weights by their weights or their activations."""
    factory: str | None = None
    """For `custom`: the function or class that builds the model, as `package.module:name`."""
    axes: dict[AxisName, CustomAxis] = Field(default_factory=dict)
    """For `custom`: how each axis changes the factory's arguments."""
    blocks: CustomBlocks | None = None
    """For `custom`: where the blocks are. A depth axis needs it."""
    fused: dict[str, CustomFused] = Field(default_factory=dict)
    """For `custom` and `timm`: tensors that hold several, such as query, key and value, by a
    pattern of their name or their module's: `"blocks.*.attn.qkv" = 3`. Axes shrink each part."""

    @property
    def factories(self) -> tuple[str, ...]:
        """The factory, if there is one: whoever trains a spec allows it."""
        return (self.factory,) if self.factory else ()

    @model_validator(mode="after")
    def _weights_fit_family(self, info: ValidationInfo) -> Self:
        if self.reorder != "none" and self.pretrained is None:
            raise ValueError("reorder needs pretrained, whose weights it orders")
        facts = family_facts(self.family)
        if self.init != "stock" and not facts.norms_are_per_channel:
            raise ValueError(
                f"init {self.init!r} is for image networks: the norms of {self.family} average"
                " over all channels, so that no first weights give all widths the same features"
            )
        if self.init == "nested-identity" and self.family == "custom":
            raise ValueError(
                "init 'nested-identity' is not for custom models, whose residual blocks are not"
                " declared: use 'nested'"
            )
        if self.init != "stock" and self.pretrained is not None and info.context != STORED:
            raise ValueError(
                f"init {self.init!r} is for first weights, which pretrained ones replace: set init"
                " to 'stock', or remove pretrained"
            )
        return self

    @model_validator(mode="after")
    def _keys_fit_family(self) -> Self:
        if (self.name is None) == (self.family == "timm"):
            raise ValueError("name: the family 'timm' needs it, and no other family takes one")
        if self.family != "custom":
            if self.factory or self.axes or self.blocks:
                raise ValueError("factory, axes and blocks are only for the family 'custom'")
            if self.fused and self.family != "timm":
                raise ValueError("fused is only for the families 'custom' and 'timm'")
            facts = family_facts(self.family)
            if self.depth_order not in (None, *facts.depth_orders):
                raise ValueError(
                    f"depth_order of {self.family} must be one of {listed(facts.depth_orders)},"
                    f" not {self.depth_order!r}"
                )
            return self
        if not self.factory or self.factory.count(":") != 1:
            raise ValueError("the family 'custom' needs factory = \"package.module:function\"")
        if not self.axes:
            raise ValueError("the family 'custom' needs at least one table [model.axes.NAME]")
        if "depth" in self.axes and self.blocks is None:
            raise ValueError("a custom depth axis needs [model.blocks] with the blocks' paths")
        self._check_arguments()
        return self

    def _check_arguments(self) -> None:
        """ValueError if an axis changes what the factory is not given."""
        for axis, verbs in self.axes.items():
            for verb, names in verbs.arguments.items():
                for name in names:
                    if name not in self.config:
                        raise ValueError(
                            f"axes.{axis}.{verb}: {name!r} is no key of model.config"
                            f"{suggestion(name, self.config)}; its keys are {listed(self.config)}"
                        )
        stages = self.config.get(getattr(self.axes.get("depth"), "stages", None) or "")
        if self.blocks is None or not isinstance(stages, list):
            return
        if len(stages) != len(self.blocks.paths):
            raise ValueError(
                f"blocks.paths names {len(self.blocks.paths)} containers for {len(stages)} stages"
            )


class RunSpec(SpecModel):
    """A spec: everything that is needed to repeat a run, stored as its `spec.toml`."""

    name: PlainName
    """The run's name; by default the preset's, or that of the spec file without `.toml`."""
    task: Task = "classification"
    """What the model learns, which decides its loss and its metric."""
    model: ModelSpec
    """The root network."""
    space: dict[str, tuple[AxisValue, ...]]
    """The values of each axis. Every combination is a sub-model."""
    train: TrainSpec
    """How to train."""
    data: AnyDataSpec
    """Where samples come from."""

    @model_validator(mode="after")
    def _task_fits_family(self) -> Self:
        family, facts = self.model.family, family_facts(self.model.family)
        if self.task not in facts.tasks:
            raise ValueError(f"task: {family} is for {listed(facts.tasks)}, not {self.task!r}")
        if data_kind(self.data) != facts.inputs:
            raise ValueError(
                f"data.source: {family} takes {facts.inputs} data, which {self.data.source!r}"
                " does not hold"
            )
        return self

    @model_validator(mode="after")
    def _template_fits_task(self) -> Self:
        if self.task != "answers" and getattr(self.data, "template", "plain") != "plain":
            raise ValueError(f"data.template: 'chat' is for the task 'answers', not {self.task!r}")
        return self

    @model_validator(mode="after")
    def _crossing_lr_fits_family(self) -> Self:
        facts = family_facts(self.model.family)
        if self.train.crossing_lr < 1 and not facts.norms_are_per_channel:
            raise ValueError(
                f"train.crossing_lr is for image networks: the norms of {self.model.family} average"
                " over all channels, so that slow crossing weights cannot keep features the same"
            )
        return self

    @model_validator(mode="after")
    def _layers_run_one_by_one(self) -> Self:
        family, train = self.model.family, self.train
        if family_facts(family).can_shard:
            return self
        able = listed(name for name, facts in own_families().items() if facts.can_shard)
        if train.shard:
            raise ValueError(
                f"train.shard: {family} cannot be sharded, only {able} can: set it to false"
            )
        if train.layer_dropout:
            raise ValueError(
                f"train.layer_dropout: {family} cannot skip layers, only {able} can: set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _norms_fit_space(self) -> Self:
        if self.model.norms == "by-width" and set(self.space) <= {"depth"}:
            raise ValueError(
                "model.norms: 'by-width' needs an axis that scales norms, such as width: all depths"
                " share their norms: take 'shared'"
            )
        return self

    @model_validator(mode="after")
    def _shard_fits_model(self) -> Self:
        if not self.train.shard:
            return self
        others = [axis for axis in self.space if axis != "depth"]
        if others or not self.space:
            raise ValueError(
                f"space: train.shard needs the axis depth alone, not {listed(others) or 'none'},"
                " because a shard is no slice of a narrower sub-model: remove other axes, or set"
                " train.shard to false"
            )
        if self.model.reorder != "none":
            raise ValueError(
                "model.reorder is for narrower sub-models, which train.shard does not train:"
                " remove it"
            )
        return self

    @model_validator(mode="after")
    def _space_fits_family(self) -> Self:
        facts = family_facts(self.model.family)
        axes = tuple(self.model.axes) or facts.axes
        for axis, values in self.space.items():
            if axis in facts.refused:
                raise ValueError(f"space.{axis}: {self.model.family}: {facts.refused[axis]}")
            if axis not in axes:
                hint = suggestion(axis, axes)
                raise ValueError(f"space.{axis}: unknown axis{hint}; the axes are {listed(axes)}")
            if not values:
                raise ValueError(f"space.{axis}: needs at least one value")
            if len(set(values)) != len(values):
                raise ValueError(f"space.{axis}: {list(values)} holds a value twice")
            if min(values) <= 0:
                raise ValueError(f"space.{axis}: values must be positive")
            if axis == "depth" and any(value != int(value) for value in values):
                raise ValueError("space.depth: a depth must be a whole number of blocks")
            if axis in FRACTIONS and max(values) > 1:
                raise ValueError(
                    f"space.{axis}: {axis} is a fraction of the root's and must be at most 1"
                )
        if not self.space:
            raise ValueError(f"space: name at least one axis of {listed(axes)}")
        if (count := math.prod(map(len, self.space.values()))) > MAX_SUBMODELS:
            raise ValueError(f"space: {count:,} sub-models, more than {MAX_SUBMODELS:,}")
        return self
