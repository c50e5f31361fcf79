"""How a nested network is trained: the table `[train]` of a spec."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, ValidationInfo, model_validator

from sortednet_cli.spec.fields import Fraction, PositiveFloat, SpecModel
from sortednet_cli.spec.vocabulary import RULES, STORED, TRACKERS, one_of

_FLOAT32_MAX = 3e38


class TrainSpec(SpecModel):
    """The table `[train]`: how the nested network is trained."""

    rule: Annotated[str, one_of(RULES)] = "sorted"
    """What a micro-batch trains: `sorted`, `sandwich`, `sum`, `sandwich-sum`, `single`."""
    rule_options: dict[str, Any] | None = None
    """Settings of a rule of another package, which that package documents."""
    submodel: str | None = None
    """For the rule `single`: the sub-model, such as `"w0.5-d8"`; by default the largest."""
    draws: PositiveInt = 1
    """For the rule `sorted`: how many sub-models each micro-batch trains."""
    always_largest: bool = False
    """For the rule `sorted`: whether the first micro-batch of every update trains the largest in
    place of one draw."""
    num_random: Annotated[int, Field(ge=0)] = 2
    """How many random sub-models a `sandwich` adds, or random widths a `sandwich-sum`."""
    random_exits: Annotated[int, Field(ge=0)] | None = None
    """For `sum` and `sandwich-sum`: how many random depths a micro-batch trains besides the
    deepest; by default all."""
    depth_weights: tuple[PositiveFloat, ...] | None = None
    """For `sum` and `sandwich-sum`: a loss weight for each depth, from the smallest depth on; by
    default equal."""
    last_depth_weights: tuple[PositiveFloat, ...] | None = None
    """For `sum` and `sandwich-sum`: the loss weights at the end of the training. In between, each
    depth's share of the loss changes linearly. By default the weights stay as they are."""
    loss: Literal["mean", "sum"] | None = None
    """How the losses of a micro-batch combine; by default `sum` for `sandwich`, else `mean`."""
    distill: bool | Literal["next"] = False
    """Whether the largest sub-model teaches the others in the same micro-batch, or with `"next"`
    the next larger one that was drawn teaches each sub-model."""
    teacher: str | None = None
    """A trained model that teaches all sub-models: a run, an artifact, a folder or a hub name."""
    teacher_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The teacher's share of a student's loss; labels have the rest. Needs a teacher."""
    temperature: PositiveFloat = 1.0
    """What divides the logits of teacher and student before they are compared. Needs a teacher."""
    divergence: Literal["kl", "alpha"] = "kl"
    """The teacher's loss: `kl`, or AlphaNet's `alpha` with a clipped ratio. Needs a teacher."""
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
    rare_lr: Annotated[float, Field(ge=1, lt=_FLOAT32_MAX)] = 1.0
    """The most that multiplies the learning rate of weights that few draws train; only `sgd`."""
    momentum: Fraction = 0.9
    """Momentum of `sgd` and `rmsprop`."""
    average: Fraction = 0.0
    """Decay of a moving average of the weights, which a run then scores and stores; 0 is none."""
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
    """For `exponential`: what the learning rate falls to by the end, as a fraction of `lr`."""
    warmup: Fraction = 0.05
    """The fraction of the updates over which the learning rate rises from zero."""
    layer_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The probability that a micro-batch skips the last layer; earlier layers have less, the first
    none. For networks of transformers."""
    label_smoothing: Fraction = 0.0
    """Label smoothing of the losses from labels."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Autocast: `auto` measures at the start whether bfloat16 is faster on this device."""
    channels_last: bool | Literal["auto"] = False
    """Memory format of images and weights: `auto` measures at the start which one is faster."""
    compile: bool = False
    """Whether to compile the blocks with `torch.compile` for training."""
    cuda_graphs: bool | Literal["auto"] = "auto"
    """Whether passes are replayed as CUDA graphs: `auto` does it on CUDA where it can be done."""
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
    trackers: tuple[Annotated[str, one_of(TRACKERS)], ...] = ()
    """Where losses and the frontier go too: `tensorboard`, `wandb`, `mlflow`, `trackio`."""
    report: bool = False
    """Whether to write `report.html` into the run at its end; needs the extra `report`."""

    @property
    def in_channels_last(self) -> bool:
        """Whether the memory format is known to be `channels_last`: that of a run is."""
        return self.channels_last is True

    @property
    def tracker_names(self) -> tuple[str, ...]:
        """Every tracker, once; `tensorboard = true` means the one of that name."""
        short = ("tensorboard",) if self.tensorboard else ()
        return tuple(dict.fromkeys((*self.trackers, *short)))

    @model_validator(mode="before")
    @classmethod
    def _shards_train_alike(cls, table: Any) -> Any:
        """Set the default of `diverse_ranks` to false under `shard`, which does not allow it."""
        if isinstance(table, dict) and str(table.get("shard")).lower() == "true":
            return {"diverse_ranks": False, **table}
        return table

    @model_validator(mode="after")
    def _runs_in_one_way(self) -> Self:
        if self.shard and self.compile:
            raise ValueError(
                "train.compile: sharded layers cannot be compiled: set it or train.shard to false"
            )
        if self.cuda_graphs is True and (self.shard or self.compile):
            other = "shard" if self.shard else "compile"
            raise ValueError(
                f"train.cuda_graphs: passes cannot be recorded under train.{other}: set it or"
                f" train.{other} to false"
            )
        if self.cuda_graphs is True and self.layer_dropout:
            raise ValueError(
                "train.cuda_graphs: passes that skip layers at random are seldom alike, and are not"
                " recorded: set it to false, or train.layer_dropout to 0"
            )
        return self

    @model_validator(mode="after")
    def _one_teacher(self) -> Self:
        if self.distill and self.teacher is not None:
            raise ValueError("give one of train.distill and train.teacher")
        for key, default in {"teacher_share": 1, "temperature": 1, "divergence": "kl"}.items():
            if getattr(self, key) != default and not self.distill and self.teacher is None:
                raise ValueError(f"train.{key} needs train.teacher or train.distill")
        return self

    @model_validator(mode="after")
    def _changes_something(self, info: ValidationInfo) -> Self:
        """Refuse settings that would do nothing, except in runs that were trained with them."""
        if info.context == STORED:
            return self
        for key, schedule in (("lr_drops", "step"), ("lr_end", "exponential")):
            default = type(self).model_fields[key].default
            if getattr(self, key) != default and self.schedule != schedule:
                raise ValueError(
                    f"train.{key} is only for the schedule {schedule!r}: remove it, as by"
                    f" --set train.{key}="
                )
        if self.label_smoothing and self.teacher is not None and self.teacher_share == 1:
            raise ValueError(
                "train.label_smoothing: the teacher has the whole loss, and labels none: set it to"
                " 0, or train.teacher_share below 1"
            )
        if self.cuda_graphs is True and self.last_depth_weights is not None:
            raise ValueError(
                "train.cuda_graphs: under train.last_depth_weights exits weigh something else in"
                ' every pass, so that none can be recorded: set it to "auto" or false'
            )
        return self

    @model_validator(mode="after")
    def _rare_lr_fits(self) -> Self:
        if self.rare_lr == 1:
            return self
        if self.optimizer != "sgd":
            raise ValueError(
                f"train.rare_lr is for sgd: {self.optimizer} divides by the root mean square of the"
                " gradient, which is small where few draws train: set it to 1"
            )
        for key, has in (
            ("the rule 'single'", self.rule == "single"),
            ("train.largest_first, which trains all weights alike", self.largest_first > 0),
            ("train.shard, whose sub-models share every tensor whole", self.shard),
        ):
            if has:
                raise ValueError(f"train.rare_lr is not for {key}: set it to 1")
        return self

    @model_validator(mode="after")
    def _more_than_the_largest(self) -> Self:
        if self.always_largest and self.rule != "sorted":
            raise ValueError("train.always_largest is only for the rule 'sorted'")
        if self.always_largest and self.draws == self.accumulate == 1:
            raise ValueError(
                "train.always_largest: an update of one draw would train nothing but the largest:"
                " raise train.draws or train.accumulate"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.shard and self.diverse_ranks:
            raise ValueError(
                "train.diverse_ranks: under train.shard all processes run each layer together and"
                " train the same sub-models: remove it or set it to false"
            )
        if (self.updates is None) == (self.epochs is None):
            raise ValueError("give exactly one of train.updates and train.epochs")
        if self.rule == "single" and self.distill:
            raise ValueError(
                "train.distill has no teacher under the rule 'single': set it to false"
            )
        for key in ("largest_first", "smallest_first"):
            if self.rule == "single" and getattr(self, key):
                raise ValueError(f"train.{key} is not for the rule 'single': set it to 0")
        if self.largest_first and self.smallest_first:
            raise ValueError("give one of train.largest_first and train.smallest_first")
        if self.smallest_first and self.distill is True:
            raise ValueError(
                "train.distill = true needs the largest sub-model from the start, but"
                " train.smallest_first trains it last: set train.smallest_first to 0, or"
                ' train.distill to "next"'
            )
        if self.submodel is not None and self.rule != "single":
            raise ValueError("train.submodel is only for the rule 'single'")
        if self.rule != "sorted" and self.draws > 1:
            raise ValueError("train.draws is only for the rule 'sorted'")
        for key in ("depth_weights", "last_depth_weights", "random_exits"):
            if getattr(self, key) is not None and self.rule not in ("sum", "sandwich-sum"):
                raise ValueError(
                    f"train.{key} is only for the rules 'sum' and 'sandwich-sum': remove it, as by"
                    f" --set train.{key}="
                )
        return self
