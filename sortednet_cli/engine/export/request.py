"""The command `extract`: choose a sub-model and write it under a free name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sortednet_cli.engine.evaluation.budget import Budget
from sortednet_cli.engine.evaluation.costs import Conditions
from sortednet_cli.engine.evaluation.frontier import CostProgress, select
from sortednet_cli.engine.export.extract import Extracted, extract, needs_data
from sortednet_cli.engine.export.formats import Format
from sortednet_cli.engine.requests import ExtractRequest
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.storage.files import PathExists, free_name
from sortednet_cli.storage.sources import StoredSource

ARTIFACTS = Path("artifacts")


@dataclass(frozen=True)
class Extraction:
    """A finished artifact.

    Attributes:
        conditions: by quantity, the conditions under which the costs of the budget were measured.
    """

    artifact: Extracted
    conditions: Mapping[str, Conditions]


def extract_requested(
    source: Source,
    stored: StoredSource,
    request: ExtractRequest,
    budget: Budget | None,
    file_format: Format | None,
    progress: CostProgress,
) -> Extraction:
    """Choose the sub-model, by a budget or by its axes, and extract it.

    Raises:
        RequestError: there is no such sub-model, none is within the budget, or the folder exists.
        WorkError: verification failed; nothing is left behind.
    """
    choice = None
    if budget is not None:
        choice = select(stored, lambda: source, budget, request.device, progress)
    submodel = choice.row.submodel if choice else source.space.resolve(request.axes)
    data = None
    if needs_data(source, submodel) or (file_format is not None and file_format.lossy):
        data = source.open_data(None if request.data is None else str(request.data))
    while True:
        out = request.out or free_name(ARTIFACTS / f"{source.stem}-{submodel}")
        try:
            artifact = extract(
                source,
                submodel,
                out,
                data,
                file_format,
                max_shard_bytes=request.max_shard_bytes,
                check_outputs=None if request.verify == "auto" else request.verify == "outputs",
            )
        except PathExists:
            if request.out is not None:
                raise
            continue  # another process took the free name first
        if choice is None:
            return Extraction(artifact, {})
        row = replace(artifact.row, costs=choice.row.costs)
        return Extraction(replace(artifact, row=row), choice.conditions)
