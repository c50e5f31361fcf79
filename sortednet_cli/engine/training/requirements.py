"""What a training is asked to do, held against its data before anything is written."""

from __future__ import annotations

from pathlib import Path

import torch

from sortednet_cli.data import Dataset, InputFormat
from sortednet_cli.distributed.processes import Processes
from sortednet_cli.errors import RequestError, reason_of
from sortednet_cli.extensions import ARCHITECTURES
from sortednet_cli.families import Family
from sortednet_cli.nesting import NestedNetwork, build_skeleton
from sortednet_cli.spec import RunSpec, TrainSpec
from sortednet_cli.spec.data_sources import data_source
from sortednet_cli.spec.families import own_families


def check_amount(data: Dataset, train: TrainSpec, processes: Processes) -> None:
    """RequestError unless an epoch holds the micro-batches of one update.

    A larger update would take samples twice for one step, and no budget of epochs could hold it.
    """
    batches = data.batches_per_epoch(train.batch_size)
    if batches < processes.count:
        raise RequestError(
            f"{processes.count} processes need as many batches, and the training part has"
            f" {batches} of train.batch_size = {train.batch_size}: start fewer processes,"
            " or lower train.batch_size"
        )
    needed = train.accumulate * processes.count
    if batches < needed:
        raise RequestError(
            f"train.accumulate = {train.accumulate} makes an update of {needed} micro-batches, and"
            f" the training part has {batches} of train.batch_size = {train.batch_size}:"
            " lower either"
        )


def check_batch(family: Family, inputs: InputFormat, train: TrainSpec) -> None:
    """RequestError if a batch of one is too few for a normalisation layer.

    It is where a layer sees one value of each channel, which has no variance.
    """
    if train.batch_size > 1:
        return
    module = build_skeleton(family, family.root.config).train()
    try:
        with torch.device("meta"), torch.no_grad():
            family.forward(module, inputs.random_inputs(1))
    except ValueError as error:
        raise RequestError(
            "train.batch_size = 1: BatchNorm needs more than one value of a channel"
            f" ({reason_of(error)}): raise it"
        ) from error


@torch.no_grad()
def check_pass(network: NestedNetwork, inputs: InputFormat) -> None:
    """RequestError if another package's family trains by other logits than its module gives.

    Such as an architecture whose class scales its logits, declared with the tail of one that does
    not. This package's own are held to it by its tests.
    """
    name = network.family.root.family
    if name in own_families() or network.sharded:
        return
    with network.device:
        batch = inputs.random_inputs(1)
    shared = network.shared_pass([network.space.largest], training=False)
    (states,) = shared.states(batch)
    found = shared.logits(0, states)
    wanted = network.family.forward(network.at(network.space.largest), batch)
    if not torch.allclose(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max())):
        raise RequestError(
            f"{ARCHITECTURES}: {name!r} declares a tail, or layers, whose logits differ from its"
            f" class's by {float((found - wanted).abs().max()):.3g}"
        )


def absolute(spec: RunSpec) -> RunSpec:
    """Store absolute paths, so that a run can go on from any working folder."""
    data, model = spec.data, spec.model
    if data.path is not None and data_source(data.source).path_is_file:
        data = data.model_copy(update={"path": str(Path(data.path).absolute())})
    if model.pretrained is not None and Path(model.pretrained).exists():
        place = str(Path(model.pretrained).absolute())
        model = model.model_copy(update={"pretrained": place})
    train = spec.train
    if train.teacher is not None and Path(train.teacher).exists():
        train = train.model_copy(update={"teacher": str(Path(train.teacher).absolute())})
    return spec.model_copy(update={"data": data, "model": model, "train": train})
