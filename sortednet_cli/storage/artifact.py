"""The folder that `extract` writes: one standalone sub-model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sortednet_cli.errors import RequestError
from sortednet_cli.storage.files import read_json
from sortednet_cli.storage.run import check_format

MANIFEST = "sortednet.json"


@dataclass(frozen=True)
class ArtifactFolder:
    """Paths and manifest of one artifact."""

    path: Path

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def check(self) -> Path:
        """Inputs and the logits recorded for them at extraction."""
        return self.path / "check.safetensors"

    @staticmethod
    def is_one(path: Path) -> bool:
        return (path / MANIFEST).is_file()

    @classmethod
    def open(cls, path: Path) -> ArtifactFolder:
        """Open an artifact; RequestError if the folder is none."""
        if not cls.is_one(path):
            raise RequestError(f"no artifact at {path}: it has no {MANIFEST}")
        check_format(read_json(path / MANIFEST), path)
        return cls(path)

    def manifest(self) -> dict[str, Any]:
        manifest = read_json(self.path / MANIFEST)
        for key in ("run", "root", "submodel", "space", "data", "data_spec", "submodels"):
            if key not in manifest:
                raise RequestError(f"{self.path / MANIFEST} is damaged: it has no {key!r}")
        return manifest
