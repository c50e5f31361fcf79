"""Runs that were changed or not finished, with checksums that are right all the same."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from unittest.mock import patch

import torch

from sortednet_cli.engine.training.start import reopen_session
from sortednet_cli.errors import RequestError
from sortednet_cli.storage.checks import checks_of, write_sealed
from sortednet_cli.storage.run import RunFolder

_MANIFESTS = ("run.json", "sortednet.json")


def reseal(path: Path) -> None:
    """Seal the run or artifact that `path` is, or lies in, as it is now.

    What is too damaged for that (a manifest that is no JSON any more) stays as it is, and so do
    folders without checksums.
    """
    for folder in (path, *path.parents):
        if any((folder / name).exists() for name in _MANIFESTS):
            _seal(folder)
            return


def keep_checkpoints() -> AbstractContextManager[object]:
    """Let runs that this process finishes keep their last checkpoint."""
    return patch.object(RunFolder, "drop_checkpoints")


def unfinished(run: Path) -> None:
    """Turn a finished run into one that was killed after its last checkpoint.

    It is trained once more, unless it has that checkpoint still, as runs of older versions do.
    """
    _mark_unfinished(run)
    if not (run / "checkpoints").exists():
        with keep_checkpoints():
            list(reopen_session(RunFolder.open(run), torch.device("cpu"), ()).events())
        _mark_unfinished(run)


def _mark_unfinished(run: Path) -> None:
    file = run / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "state": "training"}))


def _seal(folder: Path) -> None:
    manifests = [folder / name for name in (*_MANIFESTS, "decoding.json")]
    for manifest in (*folder.glob("checkpoints/*/counters.json"), *manifests):
        with suppress(OSError, ValueError, TypeError, AttributeError, RecursionError, RequestError):
            table = json.loads(manifest.read_bytes())
            if table.get("state") == "training":
                continue
            if isinstance(table.get("files"), dict):
                files = [manifest.parent / name for name in table["files"]]
                table["files"] = checks_of(manifest.parent, files, {})
            write_sealed(manifest, table)
