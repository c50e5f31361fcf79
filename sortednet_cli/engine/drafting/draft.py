"""A first spec: found out, written, and held to the checks of a training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sortednet_cli.data import Dataset, ImageFormat, open_data
from sortednet_cli.engine.drafting.data import FoundData, find_data
from sortednet_cli.engine.drafting.document import written
from sortednet_cli.engine.drafting.factory import declare
from sortednet_cli.engine.drafting.measure import measured_update
from sortednet_cli.engine.drafting.memory import Room, fit_batch
from sortednet_cli.engine.drafting.model import Found, find_model
from sortednet_cli.engine.drafting.recipe import Line, Lines, training
from sortednet_cli.engine.drafting.space import Axes, choose_space
from sortednet_cli.engine.planning.resources import plan_opened
from sortednet_cli.engine.requests import DraftRequest
from sortednet_cli.engine.sources.root import open_root
from sortednet_cli.engine.training.preflight import check_new
from sortednet_cli.engine.training.requirements import with_precision
from sortednet_cli.engine.training.start import check_request
from sortednet_cli.errors import RequestError
from sortednet_cli.families import Family, root_of
from sortednet_cli.machine.device import choose_device
from sortednet_cli.nesting import SubModelCost, build_skeleton, cost_of, has_statistics
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import ModelSpec, RunSpec, parse_spec
from sortednet_cli.spec.data import DATA_KINDS
from sortednet_cli.spec.families import family_facts
from sortednet_cli.storage.files import write_text


@dataclass(frozen=True)
class Draft:
    """A spec that was written, and what its training costs.

    Attributes:
        path: the spec's file.
        spec: the spec, as `train` reads it.
        model: what the model is, for people.
        data: what the data are, for people.
        costs: parameters and multiply-adds of the smallest and the largest sub-model.
        room: memory of a training, and what is free.
        updates: how many updates the training has.
        update_seconds: seconds of an update; None if it was not measured.
    """

    path: Path
    spec: RunSpec
    model: str
    data: str
    costs: Mapping[SubModel, SubModelCost]
    room: Room
    updates: int
    update_seconds: float | None


def draft(request: DraftRequest) -> Draft:
    """Look at a model and data, and write a spec that trains them.

    Raises:
        RequestError: the model is not known, nothing of it can be cut, or the data do not suit it.
        WorkError: the hub cannot be reached.
    """
    device = choose_device(request.device)
    found = find_model(request.model, request.allow_factories)
    about = find_data(found, request.data)
    kind: Any = DATA_KINDS[family_facts(found.family).inputs]
    data = open_data(kind.model_validate(about.table), about.task, tokenizer=found.folder)
    if found.family == "custom" and "axes" not in found.table:
        assert isinstance(data.format, ImageFormat)
        found = declare(found, data.format, request.allow_factories)
    family = _opened(found, about, data)
    axes = choose_space(family, tuple(found.table.get("axes", ())) or family.facts.axes)
    lines = _lines(found, about, family, axes, data)
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(request.model).stem.rpartition(":")[2]).strip("-")
    text, spec = _parsed(request, name or "model", found, about, axes, lines)
    room = fit_batch(with_precision(spec, device), family, data.format, device)
    samples = data.batches_per_epoch(1)
    lines["train"] = _with_batch(lines["train"], room, samples)
    text, spec = _parsed(request, name or "model", found, about, axes, lines)
    check_new(spec)
    check_request(spec, family, data, device)
    plan = plan_opened(with_precision(spec, device), family, data.format)
    space = SearchSpace.of(spec.space)
    inputs = data.format
    costs = {
        submodel: cost_of(family, submodel, inputs.random_inputs, inputs.num_units)
        for submodel in (space.smallest, space.largest)
    }
    per_epoch = samples // (spec.train.batch_size * spec.train.accumulate)
    updates = spec.train.updates or max(1, round((spec.train.epochs or 1) * per_epoch))
    seconds = measured_update(spec, request.device) if request.measure else None
    try:
        write_text(request.out, text)
    except UnicodeEncodeError as error:
        raise RequestError(f"{request.data}: its name is not UTF-8, which specs are") from error
    room = replace(room, needed=plan.memory["replicated"].total)
    return Draft(request.out, spec, found.what, about.what, costs, room, updates, seconds)


def _opened(found: Found, about: FoundData, data: Dataset) -> Family:
    model = ModelSpec.model_validate(dict(found.table))
    root = root_of(model, about.task, data.format.facts(), found.stock)
    allowed = [model.factory] if model.factory else []
    return open_root(root, allowed, data.format, where=found.what)


def _lines(
    found: Found, about: FoundData, family: Family, axes: Axes, data: Dataset
) -> dict[str, Lines]:
    """The lines of every table of the spec."""
    root = build_skeleton(family, family.root.config)
    params = sum(parameter.numel() for parameter in root.parameters())
    parts = {f"{key}": value for key, value in found.table.items() if key not in _OWN_TABLES}
    whys = {
        "family": found.what,
        "pretrained": "the weights to start from",
        "factory": "the code that builds the model",
        "blocks": "the containers of the blocks",
    }
    model = [Line(key, value, whys.get(key, "")) for key, value in parts.items()]
    if found.weights is not None:
        model.append(Line("pretrained", found.weights, "to start from these weights", False))
    if found.is_pretrained and "width" in axes and _can_reorder(family, data):
        model.append(Line("reorder", "importance", "the most important units come first"))
    has_norms = has_statistics(root)
    if not found.is_pretrained and has_norms and family.facts.norms_are_per_channel:
        own = found.family != "custom"
        init = "nested-identity" if own else "nested"
        model.append(Line("init", init, "all widths begin with the same features"))
    declared = found.table.get("axes", {})
    model_axes = [Line(key, value) for key, value in declared.items()]
    if declared:
        model_axes += [
            Line(axis, {verb: argument}, "no trial found one: complete this line", False)
            for axis, verb, argument in _UNKNOWN
            if axis not in declared
        ]
    return {
        "model": model,
        "model.config": [Line(k, v) for k, v in found.table.get("config", {}).items()],
        "model.axes": model_axes,
        "model.fused": [Line(f'"{k}"', v) for k, v in found.table.get("fused", {}).items()],
        "space": [Line(axis, values, _WHY_AXES[axis]) for axis, values in axes.items()],
        "train": training(found, about.task, params, has_norms),
        "data": [Line(key, value, _WHY_DATA.get(key, "")) for key, value in _data(about, found)],
    }


_OWN_TABLES = ("config", "axes", "fused")
_UNKNOWN = (("width", "scales", ["ARGUMENT"]), ("depth", "sets", "ARGUMENT"))
_WHY_AXES = {"width": "fractions of the whole network's", "depth": "numbers of blocks"}
_WHY_DATA = {
    "path": "or give --data",
    "image_size": "pixels: the shorter side is scaled, the middle is cropped",
    "max_length": "tokens; longer texts are cut",
    "text": "the column of the text",
    "pair": "the column of the second text",
    "label": "the column of the class",
    "augment": "random changes of training images",
}
_LARGE_IMAGE = 96


def _data(about: FoundData, found: Found) -> list[tuple[str, Any]]:
    entries = dict(about.table)
    if about.table["source"] == "digits":
        entries["augment"] = "none"
    elif about.table.get("image_size", 0) >= _LARGE_IMAGE:
        entries["augment"] = "resized-crop"
    return list(entries.items())


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


def _parsed(
    request: DraftRequest,
    name: str,
    found: Found,
    about: FoundData,
    axes: Axes,
    lines: Mapping[str, Lines],
) -> tuple[str, RunSpec]:
    """Write the spec as TOML, and read it as `train` does."""
    count = len(SearchSpace.of(axes))
    title = (
        f"{count} nested models out of {found.what}, on {about.what}.\n\n"
        f"Written by: sortednet init {request.model}\n"
        f"Train it with: sortednet train --config {request.out}"
    )
    top = [Line("name", name, "the run's folder is runs/NAME"), Line("task", about.task)]
    text = written(title, top, lines)
    return text, parse_spec(text, where=str(request.out), name=name)


def _with_batch(lines: Lines, room: Room, samples: int) -> Lines:
    """Put the micro-batch that fits the memory into the table `[train]`."""
    why = f"samples of a micro-batch; {samples:,} train"
    changed = [
        replace(line, value=room.batch_size, why=why) if line.key == "batch_size" else line
        for line in lines
    ]
    at = 1 + next(i for i, line in enumerate(changed) if line.key == "batch_size")
    more = Line("accumulate", room.accumulate, "micro-batches of an update, which memory limits")
    return [*changed[:at], *([more] if room.accumulate > 1 else []), *changed[at:]]
