"""Descriptions of runs and artifacts, read from their small files. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sortednet_cli.errors import RequestError, as_word
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.storage.artifact import ArtifactFolder
from sortednet_cli.storage.run import RunFolder
from sortednet_cli.storage.sources import is_checkpoint

Description = dict[str, Any]
"""Properties of a run or an artifact by name, as JSON values."""


def describe(path: Path) -> Description:
    """Describe a run or an artifact; RequestError if the path is neither, or it is damaged."""
    return _artifact(path) if ArtifactFolder.is_one(path) else _run(path)


def _run(path: Path) -> Description:
    if is_checkpoint(path) and not (path / "run.json").exists():
        raise RequestError(
            f"{path} looks like a stock checkpoint, which has no record to describe: print slices"
            f" with --plan, or cut a sub-model out with: sortednet extract {as_word(path)}"
        )
    run = RunFolder.open(path)
    spec, manifest = run.spec(), run.manifest()
    space = SearchSpace.of(spec.space)
    facts: Description = {
        "kind": "run",
        "path": str(path),
        "name": spec.name,
        "state": manifest.state,
        "family": spec.model.family,
        "space": space.as_lists(),
        "submodels": len(space),
        "rule": spec.train.rule,
        "data": manifest.data.source,
        "classes": len(manifest.data.classes),
    }
    if manifest.state == "finished":
        rows = run.rows()
        facts["params"] = [min(r.params for r in rows), max(r.params for r in rows)]
        facts["macs"] = [min(r.macs for r in rows), max(r.macs for r in rows)]
        facts["train_seconds"] = manifest.train_seconds
    return facts


def _artifact(path: Path) -> Description:
    manifest = ArtifactFolder.open(path).manifest()
    row = manifest.submodel
    return {
        "kind": "artifact",
        "path": str(path),
        "run": manifest.run,
        "submodel": SubModel.of(row.axes).name,
        "family": manifest.root.family,
        "params": row.params,
        "macs": row.macs,
        "metrics": row.metrics,
        "loader": manifest.loader,
        "verified": manifest.verified,
        "plan_digest": manifest.plan_digest,
    }
