"""Latencies that a device measured with a bench pack: the JSON file of its script. No torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from sortednet_cli.errors import RequestError, shortened
from sortednet_cli.storage.files import read_json
from sortednet_cli.storage.manifest import check
from sortednet_cli.storage.sources import StoredSource

_SHAPES = ("channels", "image_size", "num_classes", "task", "vocab_size", "max_length")
"""Entries of an input format from which shapes follow."""

Text = Annotated[str, Field(max_length=200)]
Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DeviceConditions(_Strict):
    """What the latencies must be quoted with."""

    runtime: Text
    file_format: Text
    batch_size: PositiveInt
    threads: PositiveInt
    device: Text


class DeviceLatencies(_Strict):
    """The latencies of a run's sub-models on one device.

    Attributes:
        run: the run's name.
        digest: `root_digest` of the run.
        warmup: number of passes before those that were timed.
        repeats: number of passes of which each latency is the median.
        latency_ms: milliseconds per batch, by the sub-model's name.
    """

    format: Literal[1]
    run: str
    digest: str
    conditions: DeviceConditions
    warmup: PositiveInt
    repeats: PositiveInt
    latency_ms: dict[str, Milliseconds]

    def check(self, stored: StoredSource, path: Path) -> None:
        """Check that they are those of a source, and of all of its sub-models.

        Args:
            path: the file that they were read from, for messages.

        Raises:
            RequestError: they are not.
        """
        if self.run != stored.name:
            raise RequestError(f"{path} holds latencies of the run {self.run}, not {stored.name}")
        if self.digest != root_digest(stored):
            raise RequestError(
                f"{path} holds latencies of another run {self.run}, whose root network is not that"
                f" of {stored.path}"
            )
        assert stored.space is not None
        names = [submodel.name for submodel in stored.space.submodels]
        lacking = [name for name in names if name not in self.latency_ms]
        if lacking:
            raise RequestError(
                f"{path} lacks the latencies of {len(lacking)} of {len(names)} sub-models"
                f" ({shortened(lacking)}): call measure.py on the device again to continue"
            )


def read_latencies(path: Path) -> DeviceLatencies:
    """Read the file; RequestError if it is missing or damaged."""
    return check(read_json(path), path, DeviceLatencies)


def root_digest(stored: StoredSource) -> str:
    """Return a SHA-256 of what determines every sub-model's shapes.

    These are the root network and the shapes of its inputs. So a run, its artifacts and the same
    spec trained again have one digest.
    """
    manifest = stored.manifest
    assert manifest is not None
    facts = {
        "root": manifest.root.model_dump(mode="json"),
        "data": manifest.data.model_dump(mode="json", include=set(_SHAPES)),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
