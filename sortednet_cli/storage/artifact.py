"""The folder that `extract` writes: one standalone sub-model."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from sortednet_cli.errors import RequestError
from sortednet_cli.space import SearchSpace
from sortednet_cli.storage.checks import Checks
from sortednet_cli.storage.manifest import ArtifactManifest, check_rows, read_manifest
from sortednet_cli.storage.shards import sharded_files

MANIFEST = "sortednet.json"

EXPORTED = "model"
"""Files of the weights for other programs have this name and one suffix."""

VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model*",
    "vocab.*",
    "spiece.model",
    "sentencepiece*.model",
    "tiktoken.model",
    "*.tiktoken",
    "tekken.json",
)
"""Files that a tokenizer can be made of, under the names that transformers looks for."""

TOKENIZER_FILES = (
    *VOCABULARIES,
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "bpe.codes",
    "chat_template*",
    "additional_chat_templates/*.jinja",
)
"""Those, and what belongs to them."""


@dataclass(frozen=True)
class ArtifactFolder:
    """Paths and manifest of one artifact."""

    path: Path

    @property
    def weights(self) -> Path:
        """The weights; where there are more than one file can hold, see `weight_files`."""
        return self.path / "model.safetensors"

    @property
    def weight_files(self) -> tuple[Path, ...]:
        return sharded_files(self.weights)

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
        return cls(path)

    def manifest(self) -> ArtifactManifest:
        """Read `sortednet.json`; RequestError if it is damaged or of a newer format."""
        file = self.path / MANIFEST
        manifest = read_manifest(file, ArtifactManifest)
        if manifest.submodels or manifest.submodel.metrics:  # cut from what had no scores
            check_rows(manifest.submodels, SearchSpace.of(manifest.space), file)
        return manifest

    def checks(self, manifest: ArtifactManifest) -> Checks:
        """The checksums of its files, those of all that opening it reads already compared.

        Weights are to be checked when they are read. The card is for people to edit, and what
        was exported for others to run: `sortednet info --check` looks at these.
        """
        checks = Checks(self.path / MANIFEST, manifest.files)
        exported = [name for name in manifest.files or () if _is_exported(name)]
        checks.verify_all_but(".safetensors", *exported, "README.md")
        return checks


def _is_exported(name: str) -> bool:
    stem, _, suffix = name.partition(".")
    return stem == EXPORTED and "." not in suffix


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy a tokenizer's files, and nothing else, from a run's tokenizer or an artifact."""
    for pattern in TOKENIZER_FILES:
        for file in filter(Path.is_file, source.glob(pattern)):
            place = target / file.relative_to(source)
            place.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, place)


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds what a tokenizer can be made of."""
    return any(file.is_file() for pattern in VOCABULARIES for file in folder.glob(pattern))
