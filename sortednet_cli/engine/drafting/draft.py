"""A first spec: found out, written, and held to the checks of a training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sortednet_cli.data import ImageFormat, open_data
from sortednet_cli.engine.drafting.data import find_data
from sortednet_cli.engine.drafting.document import written
from sortednet_cli.engine.drafting.factory import declare
from sortednet_cli.engine.drafting.measure import measured_update
from sortednet_cli.engine.drafting.memory import Room, fit_batch
from sortednet_cli.engine.drafting.model import find_model
from sortednet_cli.engine.drafting.recipe import Line, Lines
from sortednet_cli.engine.drafting.space import choose_space
from sortednet_cli.engine.drafting.tables import tables
from sortednet_cli.engine.requests import DraftRequest
from sortednet_cli.engine.sources.root import open_root
from sortednet_cli.engine.training.loop import total_updates
from sortednet_cli.engine.training.preflight import check_new
from sortednet_cli.engine.training.start import check_request
from sortednet_cli.errors import RequestError, as_word
from sortednet_cli.families import root_of
from sortednet_cli.machine.device import choose_device
from sortednet_cli.nesting import SubModelCost, cost_of
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
        unit: what multiply-adds are counted per: `image` or `token`.
        costs: parameters and multiply-adds of the smallest and the largest sub-model.
        room: memory of a training, and what is free.
        updates: how many updates the training has.
        update_seconds: seconds of an update; None if it was not measured.
    """

    path: Path
    spec: RunSpec
    model: str
    data: str
    unit: str
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
    device, allowed = choose_device(request.device), request.allow_factories
    found = find_model(request.model, allowed)
    about = find_data(found, request.data)
    kind: Any = DATA_KINDS[family_facts(found.family).inputs]
    data = open_data(kind.model_validate(about.table), about.task, tokenizer=found.folder)
    inputs, samples = data.format, data.batches_per_epoch(1)
    if found.family == "custom" and "axes" not in found.table:
        assert isinstance(inputs, ImageFormat)
        found = declare(found, inputs, allowed)
    model = ModelSpec.model_validate(dict(found.table))
    root = root_of(model, about.task, inputs.facts(), found.stock)
    family = open_root(root, allowed, inputs, where=found.what)
    axes = choose_space(family, tuple(model.axes) or family.facts.axes)
    space = SearchSpace.of(axes)
    parts = tables(found, about, family, axes, data)
    top = [Line("name", _name(request.model), "the run's folder is runs/NAME")]
    top.append(Line("task", about.task))
    given = f" --data {as_word(request.data)}" if request.data else ""
    title = (
        f"{len(space)} nested models out of {found.what}, on {about.what}.\n\n"
        f"Written by: sortednet init {as_word(request.model)}{given}\n"
        f"Train it with: sortednet train --config {as_word(request.out)}"
    )

    def parsed() -> tuple[str, RunSpec]:
        text = written(title, top, parts)
        return text, parse_spec(text, where=str(request.out), name=_name(request.model))

    room = fit_batch(parsed()[1], family, data, device)
    parts["train"] = _with_batch(parts["train"], room, samples)
    text, spec = parsed()
    check_new(spec)
    check_request(spec, family, data, device)
    costs = {
        submodel: cost_of(family, submodel, inputs.random_inputs, inputs.num_units)
        for submodel in (space.smallest, space.largest)
    }
    updates = total_updates(spec.train, data.batches_per_epoch(room.batch_size))
    seconds = measured_update(spec, request.device) if request.measure else None
    try:
        write_text(request.out, text)
    except UnicodeEncodeError as error:
        raise RequestError(f"{request.data}: its name is not UTF-8, which specs are") from error
    found_out = (found.what, about.what, inputs.unit, costs, room)
    return Draft(request.out, spec, *found_out, updates, seconds)


def _name(model: str) -> str:
    """Name a run by the last part of a model's name that says something."""
    parts = [part for part in re.split(r"[/\\:]", model.removesuffix(".gguf")) if part]
    said = [part for part in parts if part not in ("model", ".", "..", "~")]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", said[-1] if said else "").strip("-")[:100] or "model"


def _with_batch(lines: Lines, room: Room, samples: int) -> Lines:
    """Put the micro-batch that fits the memory into the table `[train]`."""
    at = next(i for i, line in enumerate(lines) if line.key == "batch_size")
    size = replace(lines[at], value=room.batch_size, why=f"of {samples:,} training samples")
    more = Line("accumulate", room.accumulate, "micro-batches of an update: memory holds no more")
    return [*lines[:at], size, *([more] if room.accumulate > 1 else []), *lines[at + 1 :]]
