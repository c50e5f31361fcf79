"""What a file format of an artifact states of itself. No torch before a file is written."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sortednet_cli.errors import RequestError, WorkError
from sortednet_cli.storage.artifact import EXPORTED

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sortednet_cli.families import Inputs


class Format(ABC):
    """A file that `extract` writes beside the safetensors file, compared before it counts.

    Attributes:
        name: what `--format` calls it. The file is `model.NAME`.
        card: what the model card says of the file, to be read after its name.
        tolerance: the largest difference allowed between outputs of the file and the artifact's,
            as a share of the largest logit, or of 1 if that is larger. At 0 they must be equal.
        packages: modules that writing and verifying import.
        install: what installs them.
    """

    name: ClassVar[str]
    card: ClassVar[str]
    tolerance: ClassVar[float] = 0.0
    packages: ClassVar[tuple[str, ...]] = ()
    install: ClassVar[str] = ""

    @property
    def file(self) -> str:
        """The file's name in the artifact's folder."""
        return f"{EXPORTED}.{self.name}"

    def refusal(self, kind: str) -> str | None:
        """Say which models the format is for, if a model cannot have it.

        Args:
            kind: of the model's inputs, `image` or `text`.
        """
        return None

    @abstractmethod
    def write(self, module: nn.Module, inputs: Inputs, file: Path) -> Tensor:
        """Write a model into a file, and return the logits that the file gives for `inputs`."""

    def check(self, kind: str) -> None:
        """RequestError if a model cannot have this format, or a package for it is missing.

        Args:
            kind: of the model's inputs, `image` or `text`.
        """
        if (reason := self.refusal(kind)) is not None:
            raise RequestError(f"--format {self.name} is {reason}")
        if any(importlib.util.find_spec(package) is None for package in self.packages):
            raise RequestError(f"--format {self.name} needs: {self.install}")

    def export(self, module: nn.Module, inputs: Inputs, logits: Tensor, folder: Path) -> None:
        """Write the file into a folder and compare its outputs with the artifact's.

        Raises:
            WorkError: they differ by more than the tolerance.
        """
        found = self.write(module, inputs, folder / self.file)
        difference = float((found - logits).abs().max())
        allowed = self.tolerance * max(1.0, float(logits.abs().max()))
        if not difference <= allowed:  # NaN is not
            raise WorkError(
                f"verification failed: the outputs of {self.file} differ by {difference:g}"
            )
