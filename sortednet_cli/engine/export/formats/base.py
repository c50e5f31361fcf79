"""The base class of an artifact's further file formats. No torch until a file is written."""

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
    """A further file that `extract` writes beside the safetensors file, and verifies.

    Attributes:
        name: the value of `--format`. The file is `model.NAME`.
        card: the rest of the model card's sentence that begins with the file's name.
        tolerance: largest difference allowed between the outputs of the file and the artifact,
            relative to the largest logit or to 1, whichever is larger. 0 means equal.
        packages: modules that writing and verifying import.
        install: command that installs these modules.
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
        """Return which models the format is for, if it cannot be used; None if it can.

        Args:
            kind: kind of the model's inputs, `image` or `text`.
        """
        return None

    @abstractmethod
    def write(self, module: nn.Module, inputs: Inputs, file: Path) -> Tensor:
        """Write a model to a file, and return the logits that the file computes for `inputs`."""

    def check(self, kind: str) -> None:
        """RequestError if the format cannot be used for a model, or needs a missing package.

        Args:
            kind: kind of the model's inputs, `image` or `text`.
        """
        if (reason := self.refusal(kind)) is not None:
            raise RequestError(f"--format {self.name} is {reason}")
        if any(importlib.util.find_spec(package) is None for package in self.packages):
            raise RequestError(f"--format {self.name} needs: {self.install}")

    def export(self, module: nn.Module, inputs: Inputs, logits: Tensor, folder: Path) -> None:
        """Write the file into a folder and compare its logits with the artifact's.

        Args:
            logits: the artifact's logits for `inputs`.

        Raises:
            WorkError: they differ by more than the tolerance, or there is no such file.
        """
        actual = self.write(module, inputs, folder / self.file)
        if not (folder / self.file).is_file() or getattr(actual, "shape", None) != logits.shape:
            raise WorkError(
                f"verification failed: the format {self.name!r} wrote no {self.file} that gives"
                f" logits of shape {list(logits.shape)}"
            )
        difference = float((actual.detach() - logits).abs().max())
        allowed = self.tolerance * max(1.0, float(logits.abs().max()))
        if not difference <= allowed:  # also true if the difference is NaN
            raise WorkError(
                f"verification failed: the outputs of {self.file} differ by {difference:g}"
            )
