"""The base class of an artifact's further file formats. No torch until a file is written."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sortednet_cli.errors import RequestError
from sortednet_cli.storage.artifact import EXPORTED

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sortednet_cli.families import Inputs

    Run = Callable[[Inputs], Tensor]
    """Computes logits from inputs; both are on the CPU."""


@dataclass(frozen=True)
class Exported:
    """A written file of a further format, and how it was verified.

    Attributes:
        format: name of the format.
        file: name of the file.
        size_bytes: its size.
        runtime: what ran the file for the comparison.
        max_abs_diff: largest difference between the logits of the file and of the artifact; None
            if nothing here can run the file.
        samples: number of inputs whose outputs were compared.
        inputs: names of the file's inputs, in order.
        validation: of a lossy format, the validation metrics of the file, and those of the
            artifact under `float`.
    """

    format: str
    file: str
    size_bytes: int
    runtime: str
    max_abs_diff: float | None
    samples: int
    inputs: tuple[str, ...]
    validation: Mapping[str, Mapping[str, float]] | None = None


class Format(ABC):
    """A further file that `extract` writes beside the safetensors file, and verifies.

    Attributes:
        name: the value of `--format`. The file is `model.NAME`.
        card: the rest of the model card's sentence that begins with the file's name.
        runtime: name of what `open` runs the file in, such as `onnxruntime`.
        tolerance: largest difference allowed between the outputs of the file and the artifact,
            relative to the largest logit or to 1, whichever is larger. 0 means equal.
        lossy: whether the file holds other weights, such as rounded ones. It is written from
            training data, compared on validation data, and scored there.
        packages: modules that writing and opening import.
        install: command that installs these modules.
    """

    name: ClassVar[str]
    card: ClassVar[str]
    runtime: ClassVar[str]
    tolerance: ClassVar[float] = 0.0
    lossy: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ()
    install: ClassVar[str] = ""

    @property
    def file(self) -> str:
        """The file's name in the artifact's folder."""
        return f"{EXPORTED}.{self.name}"

    def files(self, folder: Path) -> list[Path]:
        """List all files that were written into a folder: `file`, and what lies beside it."""
        return [folder / self.file]

    def refusal(self, kind: str) -> str | None:
        """Return which models the format is for, if it cannot be used; None if it can.

        Args:
            kind: kind of the model's inputs, `image` or `text`.
        """
        return None

    def description(self, exported: Exported) -> str:
        """Return the rest of the model card's sentence that begins with the file's name."""
        return self.card

    @abstractmethod
    def write(self, module: nn.Module, inputs: Inputs, file: Path) -> Run | None:
        """Write a model to a file.

        Args:
            module: maps `inputs` to logits: a tensor as its argument, several by their names.
            inputs: samples, whose number must stay free; so must the length of texts. Training
                samples, if the format is lossy.

        Returns:
            None; or, if `open` reads no such file, what runs the written program in memory.
        """

    @abstractmethod
    def open(self, file: Path, threads: int = 1) -> Run | None:
        """Load a written file into its runtime; None if nothing here reads such a file.

        Args:
            threads: number of threads that one call uses.
        """

    def check(self, kind: str) -> None:
        """RequestError if the format cannot be used for a model, or needs a missing package.

        Args:
            kind: kind of the model's inputs, `image` or `text`.
        """
        if (reason := self.refusal(kind)) is not None:
            raise RequestError(f"--format {self.name} is {reason}")
        if any(importlib.util.find_spec(package) is None for package in self.packages):
            raise RequestError(f"--format {self.name} needs: {self.install}")
