"""The tables of a first spec, line by line."""

from __future__ import annotations

from typing import Any

import torch

from sortednet_cli.data import Dataset
from sortednet_cli.engine.drafting.data import FoundData
from sortednet_cli.engine.drafting.model import Found
from sortednet_cli.engine.drafting.recipe import Line, Lines, training
from sortednet_cli.engine.drafting.space import Axes
from sortednet_cli.errors import RequestError
from sortednet_cli.families import Family
from sortednet_cli.nesting import build_skeleton, has_statistics

_WHY = {
    "pretrained": "the weights to start from",
    "factory": "the code that builds the model",
    "blocks": "the containers of the blocks",
    "width": "fractions of the whole network's",
    "depth": "numbers of blocks",
    "path": "or give --data",
    "image_size": "pixels: the shorter side is scaled, the middle is cropped",
    "max_length": "tokens; longer texts are cut",
    "text": "the column of the text",
    "pair": "the column of the second text",
    "label": "the column of the class",
    "question": "the column of the question",
    "answer": "the column of the answer",
    "augment": "random changes of training images",
}
_OWN_TABLES = ("config", "axes", "fused")
_UNKNOWN = {"width": {"scales": ["ARGUMENT"]}, "depth": {"sets": "ARGUMENT"}}
_LARGE_IMAGE = 96


def tables(
    found: Found, about: FoundData, family: Family, axes: Axes, data: Dataset
) -> dict[str, Lines]:
    """Return the lines of every table but the top level."""
    root = build_skeleton(family, family.root.config)
    params = sum(parameter.numel() for parameter in root.parameters())
    has_norms = has_statistics(root)
    table, declared = found.table, found.table.get("axes", {})
    unknown = {axis: each for axis, each in _UNKNOWN.items() if declared and axis not in declared}
    missing = "no trial found one: complete this line"
    return {
        "model": _model(found, family, has_norms, reorders="width" in axes, data=data),
        "model.config": [Line(key, value) for key, value in table.get("config", {}).items()],
        "model.axes": [Line(axis, each) for axis, each in declared.items()]
        + [Line(axis, each, missing, applies=False) for axis, each in unknown.items()],
        "model.fused": [Line(key, each) for key, each in table.get("fused", {}).items()],
        "space": [Line(axis, values, _WHY[axis]) for axis, values in axes.items()],
        "train": training(found, about.task, params, has_norms),
        "data": [Line(key, value, _WHY.get(key, "")) for key, value in _data(about).items()],
    }


def _model(
    found: Found, family: Family, has_norms: bool, *, reorders: bool, data: Dataset
) -> Lines:
    stated = {key: each for key, each in found.table.items() if key not in _OWN_TABLES}
    lines = [Line(key, each, _WHY.get(key, "")) for key, each in stated.items()]
    if found.weights is not None:
        lines.append(Line("pretrained", found.weights, "to start from these weights", False))
    if found.is_pretrained and reorders and _can_reorder(family, data):
        lines.append(Line("reorder", "importance", "the most important units come first"))
    if not found.is_pretrained and has_norms and family.facts.norms_are_per_channel:
        init = "nested" if found.family == "custom" else "nested-identity"
        lines.append(Line("init", init, "all widths begin with the same features"))
    return lines


def _data(about: FoundData) -> dict[str, Any]:
    if about.table.get("image_size", 0) >= _LARGE_IMAGE:
        return {**about.table, "augment": "resized-crop"}
    return dict(about.table)


@torch.no_grad()
def _can_reorder(family: Family, data: Dataset) -> bool:
    """Whether units can be sorted by importance: tried on the meta device, without weights."""
    try:
        with torch.device("meta"):
            batch = data.format.random_inputs(1)
            family.reorder(build_skeleton(family, family.root.config), [batch])
    except RequestError:
        return False
    return True
