"""The root network of a run or an artifact: its family, its inputs and its task."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch

from sortednet_cli.data import ImageFormat, InputFormat, TextFormat
from sortednet_cli.errors import RequestError
from sortednet_cli.families import Family, Root, open_family
from sortednet_cli.space import SubModel
from sortednet_cli.storage.manifest import (
    ArtifactManifest,
    RunManifest,
    StoredFormat,
    StoredTextFormat,
)
from sortednet_cli.tasks import Task, make_task


def task_of(inputs: InputFormat, label_smoothing: float = 0.0) -> Task:
    """Make the task of a model that takes such inputs."""
    return make_task(inputs.task, inputs.kind, inputs.output_shape(1)[-1], label_smoothing)


def root_fields(family: Family, inputs: InputFormat) -> dict[str, Any]:
    """Return the entries of a manifest that describe the root network and its inputs."""
    stored = asdict(cast(ImageFormat | TextFormat, inputs))
    return {"root": asdict(family.root), "data": stored}


def read_family(
    manifest: RunManifest | ArtifactManifest, path: Path, allowed: Collection[str]
) -> Family:
    """Open the family of a run or an artifact at `path`.

    Args:
        allowed: factories that may run, as `MODULE:NAME`.

    Raises:
        RequestError: the root network in the manifest is wrong, or its factory is not allowed.
    """
    root = Root(**manifest.root.model_dump())
    inputs = read_format(manifest.data)
    return open_root(root, allowed, inputs, where=f"the root network in the manifest of {path}")


def open_root(root: Root, allowed: Collection[str], inputs: InputFormat, *, where: str) -> Family:
    """Open a family, and run its root network on the meta device.

    Args:
        allowed: factories that may run, as `MODULE:NAME`.
        where: where the configuration comes from, for messages.

    Raises:
        RequestError: the family does not take the configuration, its factory is not allowed, or
            the network does not take such inputs or does not return one logit per class or token.
    """
    try:
        family = open_family(root, allowed)
        family.shrink(SubModel(()))  # checks entries that only `shrink` reads
        with torch.device("meta"), torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
            module = family.build(family.root.config).eval()
            if empty := [name for name, p in module.named_parameters() if not p.numel()]:
                raise RequestError(f"model.config: {empty[0]} would have no elements")
            outputs = family.try_out(module, inputs.random_inputs(1))
    except RequestError as error:
        if where == "model.config":
            raise
        reason = str(error).removeprefix("model.config: ").removeprefix(f"{where} ")
        raise RequestError(f"{where}: {reason}") from error
    shape, expected = list(getattr(outputs, "shape", ())), list(inputs.output_shape(1))
    # A model may have more tokens than its tokenizer, but not another number of classes.
    has_spare_tokens = shape[-1] > expected[-1] if shape and not inputs.classes else False
    if shape[:-1] != expected[:-1] or (shape[-1:] != expected[-1:] and not has_spare_tokens):
        raise RequestError(
            f"{where}: outputs for one sample have the shape {shape} instead of"
            f" {expected}; check num_classes"
        )
    return family


def read_format(stored: StoredFormat | StoredTextFormat) -> InputFormat:
    """Convert the stored input format of a manifest."""
    kind = ImageFormat if isinstance(stored, StoredFormat) else TextFormat
    return kind(**stored.model_dump())
