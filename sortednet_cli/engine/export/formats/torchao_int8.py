"""`model.torchao-int8`, a folder that transformers loads with 8-bit weights."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sortednet_cli.engine.export.formats.base import Exported, Format
from sortednet_cli.engine.export.formats.lossy import measured
from sortednet_cli.errors import install_line
from sortednet_cli.storage.files import read_json, writing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sortednet_cli.engine.export.formats.base import Run
    from sortednet_cli.families import Inputs


class TorchAoInt8(Format):
    """Weights of linear layers as 8-bit integers, one scale for each row, by torchao."""

    name = "torchao-int8"
    card = "is a folder for `from_pretrained` of transformers, with 8-bit weights by torchao."
    runtime = "transformers"
    tolerance = 0.25
    lossy = True
    packages = ("torchao",)
    install = install_line("torchao")

    def refusal(self, kind: str) -> str | None:
        if kind == "text":
            return None
        return "for text models of transformers; for image models use onnx-int8"

    def files(self, folder: Path) -> list[Path]:
        return sorted((folder / self.file).iterdir())

    def description(self, exported: Exported) -> str:
        return f"{self.card} {measured(exported)}"

    def write(self, module: nn.Module, inputs: Inputs, file: Path) -> None:
        stock: Any = module.module
        with _quietly(), tempfile.TemporaryDirectory() as folder:
            import transformers
            from torchao.quantization import Int8WeightOnlyConfig

            stock.save_pretrained(folder)
            quantised = type(stock).from_pretrained(
                folder,
                quantization_config=transformers.TorchAoConfig(Int8WeightOnlyConfig()),
                dtype="float32",
                local_files_only=True,
                trust_remote_code=False,
            )
            quantised.config.use_cache = bool(module.use_cache)
            with writing(file):
                quantised.save_pretrained(file)

    def open(self, file: Path, threads: int = 1) -> Run:
        import torch
        import transformers

        (name,) = read_json(file / "config.json")["architectures"]
        with _quietly():
            stock = getattr(transformers, name)
            model = stock.from_pretrained(file, local_files_only=True, trust_remote_code=False)

        def run(inputs: Inputs) -> Tensor:
            assert isinstance(inputs, dict)
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            try:
                logits: Tensor = model(**inputs).logits
            finally:
                torch.set_num_threads(before)
            return logits

        return run


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep libraries from warning of what is not the user's doing, and from showing progress."""
    import transformers

    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
