"""What a run is asked to do, as frozen models that reject what they do not know."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from sortednet_cli.errors import listed
from sortednet_cli.space import MAX_SUBMODELS
from sortednet_cli.spec.data import AnyDataSpec, data_kind
from sortednet_cli.spec.families import family_facts, family_names, is_family, own_families
from sortednet_cli.spec.fields import (
    AxisName,
    AxisValue,
    Fraction,
    PlainName,
    PositiveFloat,
    SpecModel,
)
from sortednet_cli.spec.vocabulary import FRACTIONS, RULES, TRACKERS

_FLOAT32_MAX = 3e38

Task = Literal["classification", "masked-lm", "causal-lm", "answers"]


def _known_family(name: object) -> object:
    if not is_family(name):
        raise ValueError(f"unknown family {name!r}; the families are {listed(family_names())}")
    return name


class CustomAxis(SpecModel):
    """How one axis of a `custom` family changes the factory's arguments. One verb each.

    `scales`: arguments (numbers or lists of numbers) multiplied by the value and rounded.
    `sets`: one argument that takes the value itself.
    `stages`: one argument, a list of block counts for each stage, cut by `depth_order`.
    """

    scales: tuple[str, ...] = ()
    """Arguments, numbers or lists of numbers, that are multiplied by the axis value and rounded."""
    sets: str | None = None
    """One argument that takes the axis value itself."""
    stages: str | None = None
    """One argument that lists the number of blocks of each stage; `depth_order` says which go."""

    @model_validator(mode="after")
    def _one_verb(self) -> Self:
        if sum(bool(verb) for verb in (self.scales, self.sets, self.stages)) != 1:
            raise ValueError("needs exactly one of scales, sets, stages")
        return self


class CustomBlocks(SpecModel):
    """Where the factory's module holds its blocks: one container path for each stage.

    `before` and `after` count the modules of the container that are not blocks, for a
    `Sequential` which also holds a stem or a tail.
    """

    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    """The container of blocks of each stage, as a path in the module: `["body"]`."""
    before: Annotated[int, Field(ge=0)] = 0
    """How many modules at the start of a container are not blocks."""
    after: Annotated[int, Field(ge=0)] = 0
    """How many modules at the end of a container are not blocks."""


class ModelSpec(SpecModel):
    """The root network: its family and the stock configuration it is built from."""

    family: Annotated[str, BeforeValidator(_known_family)]
    """The family of models, such as `preact_resnet` or `llama`."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the stock class, or of the factory, for the root network."""
    depth_order: Literal["prefix", "balanced", "late-first"] | None = None
    """The order in which depth removes blocks; by default the first that the family allows."""
    init: Literal["stock", "nested", "nested-identity"] = "stock"
    """First weights: the stock class's own, or with zeros that keep sub-models alike."""
    pretrained: str | None = None
    """A folder, `package:NAME/FOLDER` or hub name to start from; transformers models only."""
    reorder: Literal["importance", "none"] = "none"
    """Sort heads and units of pretrained weights, so that the largest come first."""
    factory: str | None = None
    """For `custom`: the function or class that builds the model, as `package.module:name`."""
    axes: dict[AxisName, CustomAxis] = Field(default_factory=dict)
    """For `custom`: what each axis does to the factory's arguments."""
    blocks: CustomBlocks | None = None
    """For `custom`: where the blocks are. A depth axis needs it."""

    @model_validator(mode="after")
    def _custom_is_declared(self) -> Self:
        if self.reorder != "none" and self.pretrained is None:
            raise ValueError("reorder orders pretrained weights: it needs pretrained")
        facts = family_facts(self.family)
        if self.init != "stock" and not facts.norms_are_per_channel:
            raise ValueError(
                f"init {self.init!r} is for image networks: the norms of {self.family} average"
                " over all channels, so that no first weights give all widths the same features"
            )
        if self.init == "nested-identity" and self.family == "custom":
            raise ValueError(
                "init 'nested-identity' is not told which blocks of a custom model add to their"
                " input: take 'nested'"
            )
        if self.pretrained is not None and not facts.takes_pretrained:
            raise ValueError(f"pretrained: {self.family} starts from fresh weights alone")
        if self.family != "custom":
            if self.factory or self.axes or self.blocks:
                raise ValueError("factory, axes and blocks belong to the family 'custom' alone")
            if self.depth_order not in (None, *facts.depth_orders):
                raise ValueError(
                    f"depth_order of {self.family} is one of {listed(facts.depth_orders)},"
                    f" not {self.depth_order!r}"
                )
            return self
        if not self.factory or self.factory.count(":") != 1:
            raise ValueError("the family 'custom' needs factory = \"package.module:function\"")
        if not self.axes:
            raise ValueError("the family 'custom' needs at least one table [model.axes.NAME]")
        if "depth" in self.axes and self.blocks is None:
            raise ValueError("a custom depth axis needs [model.blocks] with the blocks' paths")
        return self


class TrainSpec(SpecModel):
    """How the nested network is trained."""

    rule: Annotated[str, BeforeValidator(RULES.known)] = "sorted"
    """What a micro-batch trains: `sorted`, `sandwich`, `sum`, `sandwich-sum`, `single`."""
    rule_options: dict[str, Any] | None = None
    """Settings of a rule of another package, which that package documents."""
    submodel: str | None = None
    """For the rule `single`: the sub-model, such as `"w0.5-d8"`; by default the largest."""
    draws: PositiveInt = 1
    """For the rule `sorted`: how many sub-models each micro-batch trains."""
    num_random: Annotated[int, Field(ge=0)] = 2
    """How many random sub-models a `sandwich` adds, or random widths a `sandwich-sum`."""
    depth_weights: tuple[PositiveFloat, ...] | None = None
    """For `sum` and `sandwich-sum`: a loss weight for each depth, in order; by default equal."""
    loss: Literal["mean", "sum"] | None = None
    """How the losses of a micro-batch combine; by default `sum` for `sandwich`, else `mean`."""
    distill: bool = False
    """Whether the largest sub-model teaches the others in the same micro-batch."""
    teacher_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The teacher's share of a student's loss; labels have the rest. Needs `distill`."""
    largest_first: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The fraction of the updates, at the start, that train the largest sub-model alone."""
    smallest_first: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The fraction of the updates, at the start, over which the search space opens."""
    updates: PositiveInt | None = None
    """How long to train, in optimizer steps. Give this or `epochs`."""
    epochs: PositiveFloat | None = None
    """How long to train, in passes over the training part. Give this or `updates`."""
    batch_size: PositiveInt = 128
    """Samples, or windows of text, in a micro-batch on one process."""
    accumulate: PositiveInt = 1
    """Micro-batches of an update on each process."""
    diverse_ranks: bool = True
    """Whether each process draws its own sub-models; under `shard` the default is `false`."""
    shard: bool = False
    """Whether to divide weights, gradient and optimizer state between the processes (FSDP2)."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the first weights, order, draws, augmentation and dropout."""
    optimizer: Literal["sgd", "adamw", "rmsprop"] = "sgd"
    """The optimizer; `sgd` uses Nesterov momentum."""
    lr: Annotated[float, Field(gt=0, lt=_FLOAT32_MAX)] = 0.1
    """The highest learning rate of the schedule."""
    crossing_lr: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The fraction of the learning rate that crossing weights get; image networks only."""
    momentum: Fraction = 0.9
    """Momentum of `sgd` and `rmsprop`."""
    clip: PositiveFloat | None = None
    """The largest norm of an update's gradient; by default there is no limit."""
    weight_decay: Annotated[float, Field(ge=0, lt=_FLOAT32_MAX)] = 5e-4
    """Weight decay."""
    decay: Literal["all", "weights"] = "weights"
    """What decays: tensors of two or more dimensions, or norms and biases too."""
    schedule: Literal["cosine", "constant", "step", "exponential"] = "cosine"
    """How the learning rate falls after warm-up."""
    lr_drops: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5, 0.75)
    """For `step`: where the rate falls to a tenth, as fractions of the training."""
    lr_end: Annotated[float, Field(gt=0, le=1)] = 0.01
    """For `exponential`: the last learning rate, as a fraction of `lr`."""
    warmup: Fraction = 0.05
    """The fraction of the updates over which the learning rate rises from zero."""
    label_smoothing: Fraction = 0.0
    """Label smoothing of the losses from labels."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Autocast: `auto` takes bfloat16 where the device has units for it, else float32."""
    channels_last: bool = False
    """Whether images and weights use the `channels_last` memory format."""
    compile: bool = False
    """Whether to compile the blocks with `torch.compile` for training."""
    recalibrate_samples: PositiveInt = 2048
    """Training images from which each sub-model's statistics are measured at the end."""
    checkpoint_minutes: PositiveFloat = 2.0
    """Minutes between checkpoints."""
    log_every: PositiveInt = 10
    """Updates between lines of `metrics.jsonl`."""
    max_nonfinite: PositiveInt = 1
    """The training ends at this many losses that are NaN or infinite."""
    deterministic: bool = False
    """Whether to use deterministic kernels only."""
    tensorboard: bool = False
    """Whether to write TensorBoard events; needs the extra `tensorboard`."""
    trackers: tuple[Annotated[str, BeforeValidator(TRACKERS.known)], ...] = ()
    """Where losses and learning rates go beside `metrics.jsonl`."""

    @property
    def tracker_names(self) -> tuple[str, ...]:
        """Every tracker, once; `tensorboard = true` means the one of that name."""
        short = ("tensorboard",) if self.tensorboard else ()
        return tuple(dict.fromkeys((*self.trackers, *short)))

    @model_validator(mode="before")
    @classmethod
    def _shards_train_alike(cls, table: Any) -> Any:
        """Under `shard` ranks cannot be diverse: the default is then another one."""
        if isinstance(table, dict) and table.get("shard") is True:
            return {"diverse_ranks": False, **table}
        return table

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.shard and self.diverse_ranks:
            raise ValueError(
                "train.diverse_ranks: sharded processes run every layer together, so all train the"
                " same sub-models under train.shard: leave it out or set it to false"
            )
        if self.shard and self.compile:
            raise ValueError(
                "train.compile: layers in parts are not compiled: choose train.shard or this"
            )
        if (self.updates is None) == (self.epochs is None):
            raise ValueError("give exactly one of train.updates and train.epochs")
        if self.teacher_share < 1 and not self.distill:
            raise ValueError("train.teacher_share belongs to train.distill: set that to true")
        if self.rule == "single" and self.distill:
            raise ValueError(
                "train.distill has no teacher under the rule 'single': set it to false"
            )
        for beginning in ("largest_first", "smallest_first"):
            if self.rule == "single" and getattr(self, beginning):
                raise ValueError(
                    f"train.{beginning} leads to another rule than 'single': set it to 0"
                )
        if self.largest_first and self.smallest_first:
            raise ValueError("give one of train.largest_first and train.smallest_first")
        if self.smallest_first and self.distill:
            raise ValueError(
                "train.distill learns from the largest sub-model, which train.smallest_first"
                " leaves to the end: set that to 0"
            )
        if self.submodel is not None and self.rule != "single":
            raise ValueError("train.submodel belongs to the rule 'single'")
        if self.rule != "sorted" and self.draws > 1:
            raise ValueError("train.draws belongs to the rule 'sorted'")
        if self.depth_weights is not None and self.rule not in ("sum", "sandwich-sum"):
            raise ValueError("train.depth_weights belongs to the rules 'sum' and 'sandwich-sum'")
        return self


class RunSpec(SpecModel):
    """Everything a run needs to be repeated: `spec.toml` is this model."""

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
                f"data.source: {family} takes {facts.inputs} data, {self.data.source!r} is none"
            )
        return self

    @model_validator(mode="after")
    def _crossing_weights_lead_between_features(self) -> Self:
        facts = family_facts(self.model.family)
        if self.train.crossing_lr < 1 and not facts.norms_are_per_channel:
            raise ValueError(
                f"train.crossing_lr is for image networks: the norms of {self.model.family} average"
                " over all channels, so that slow weights keep no width's features the same"
            )
        return self

    @model_validator(mode="after")
    def _shards_are_of_layers(self) -> Self:
        if not self.train.shard:
            return self
        family = self.model.family
        if not family_facts(family).can_shard:
            able = [name for name, facts in own_families().items() if facts.can_shard]
            raise ValueError(
                f"train.shard: only the layers of {listed(able)} are run one by one, those of"
                f" {family} are not: set it to false"
            )
        others = [axis for axis in self.space if axis != "depth"]
        if others or not self.space:
            raise ValueError(
                f"space: train.shard takes depth alone, not {listed(others) or 'none'}: a process"
                " holds some rows of each tensor, and no view of these is a narrower sub-model:"
                " leave other axes out, or set train.shard to false"
            )
        if self.model.reorder != "none":
            raise ValueError(
                "model.reorder is for narrower sub-models, which train.shard has not: leave it out"
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
                raise ValueError(f"space.{axis}: unknown axis; the axes are {listed(axes)}")
            if not values:
                raise ValueError(f"space.{axis}: needs at least one value")
            if len(set(values)) != len(values):
                raise ValueError(f"space.{axis}: a value stands twice in {list(values)}")
            if min(values) <= 0:
                raise ValueError(f"space.{axis}: values are positive")
            if axis == "depth" and any(value != int(value) for value in values):
                raise ValueError("space.depth: a depth is a whole number of blocks")
            if axis in FRACTIONS and max(values) > 1:
                raise ValueError(f"space.{axis}: a {axis} is a fraction of the root's, at most 1")
        if not self.space:
            raise ValueError(f"space: name at least one axis of {listed(axes)}")
        if (count := math.prod(map(len, self.space.values()))) > MAX_SUBMODELS:
            raise ValueError(f"space: {count:,} sub-models, more than {MAX_SUBMODELS:,}")
        return self
