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
"""Vocabulary files that a tokenizer can be built from, by the names transformers looks for."""

FREQUENT_TOKENS = "frequent_tokens.json"
"""The tokens that drafts choose from."""

PHRASES = "phrases.safetensors"
"""The phrases that drafts are copied from."""

TOKENIZER_FILES = (
    *VOCABULARIES,
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "bpe.codes",
    "chat_template*",
    "additional_chat_templates/*.jinja",
    FREQUENT_TOKENS,
    PHRASES,
)
"""All files of a tokenizer: its vocabulary and the files that go with it."""


PREPROCESSOR = "preprocessor_config.json"
"""The file of an image processor of transformers."""


@dataclass(frozen=True)
class ArtifactFolder:
    """Paths and manifest of one artifact."""

    path: Path

    @property
    def weights(self) -> Path:
        """The weights as one file; `weight_files` lists the shards of a large model."""
        return self.path / "model.safetensors"

    @property
    def weight_files(self) -> tuple[Path, ...]:
        return sharded_files(self.weights)

    @property
    def check(self) -> Path:
        """Sample inputs, and the logits that extraction recorded for them."""
        return self.path / "check.safetensors"

    @staticmethod
    def is_one(path: Path) -> bool:
        return (path / MANIFEST).is_file()

    @classmethod
    def open(cls, path: Path) -> ArtifactFolder:
        """Open an artifact; RequestError if the folder is not an artifact."""
        if (path / "run.json").is_file() and not cls.is_one(path):
            raise RequestError(
                f"{path} is a run: open it with load_run, or cut an artifact out of it with extract"
            )
        if not cls.is_one(path):
            raise RequestError(f"no artifact at {path}: it has no {MANIFEST}")
        return cls(path)

    def manifest(self) -> ArtifactManifest:
        """Read `sortednet.json`; RequestError if it is damaged or its format is newer."""
        file = self.path / MANIFEST
        manifest = read_manifest(file, ArtifactManifest)
        # An artifact cut from a source without scores has no rows.
        if manifest.submodels or manifest.submodel.metrics:
            check_rows(manifest.submodels, SearchSpace.of(manifest.space), file)
        return manifest

    def checks(self, manifest: ArtifactManifest) -> Checks:
        """Return the checksums of its files, and verify every file that opening it reads.

        The caller verifies weights when it reads them. The model card may be edited, and
        exported models (ONNX, pt2) are not read here: `sortednet info --check` compares both.
        """
        checks = Checks(self.path / MANIFEST, manifest.files)
        exported = [name for name in manifest.files or () if _is_exported(name)]
        checks.verify_all_but(".safetensors", *exported, "README.md")
        return checks


def _is_exported(name: str) -> bool:
    # Some formats are folders.
    stem, _, suffix = Path(name).parts[0].partition(".")
    return stem == EXPORTED and "." not in suffix


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy only a tokenizer's files, from a run's tokenizer folder or an artifact."""
    for pattern in TOKENIZER_FILES:
        for file in filter(Path.is_file, source.glob(pattern)):
            copy = target / file.relative_to(source)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, copy)


def copy_preprocessor(source: Path, target: Path) -> None:
    """Copy the file of an image processor, if a stock checkpoint or an artifact has one."""
    if (file := source / PREPROCESSOR).is_file():
        shutil.copyfile(file, target / PREPROCESSOR)


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a file that a tokenizer can be built from."""
    return any(file.is_file() for pattern in VOCABULARIES for file in folder.glob(pattern))
