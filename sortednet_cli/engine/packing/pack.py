"""Write a bench pack: the exported file of every sub-model, and the script that times them.

No torch before a sub-model is exported.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sortednet_cli.engine.export.formats import Format, find_format
from sortednet_cli.engine.export.latencies import every_format
from sortednet_cli.engine.packing.device_script import RUNTIMES
from sortednet_cli.engine.requests import BenchPackRequest, Progress
from sortednet_cli.errors import RequestError, listed
from sortednet_cli.space import format_count
from sortednet_cli.storage.files import free_name, new_folder, write_bytes, write_json
from sortednet_cli.storage.latencies import root_digest
from sortednet_cli.storage.sources import StoredSource, require_scores

if TYPE_CHECKING:
    from sortednet_cli.engine.sources.source import Source
    from sortednet_cli.families import Inputs

PACKS = Path("bench-packs")
SCRIPT = "measure.py"
_WEIGHT_BYTES = 4


@dataclass(frozen=True)
class BenchPack:
    """A finished bench pack.

    Attributes:
        path: its folder.
        num_models: number of models in it.
        num_bytes: size of the models' files.
    """

    path: Path
    num_models: int
    num_bytes: int


def timed_formats() -> list[str]:
    """List the export formats whose runtime the script knows."""
    return [each.name for each in every_format() if each.runtime in RUNTIMES]


def find_timed(name: str) -> Format:
    """Find one of `timed_formats`; RequestError if it is none."""
    found = find_format(name)
    if found is None or found.runtime not in RUNTIMES:
        raise RequestError(
            f"--format {name}: the script of a bench pack runs {listed(RUNTIMES)} alone; the"
            f" formats are {listed(timed_formats())}"
        )
    return found


def check_pack(stored: StoredSource, request: BenchPackRequest, file_format: Format) -> None:
    """Check before torch is imported that a pack can be made, and is not too large.

    Raises:
        RequestError: it cannot, or it is.
    """
    require_scores(stored.path, stored.rows)
    file_format.check(stored.kind)
    num_bytes = _WEIGHT_BYTES * sum(row.params for row in stored.rows)
    if num_bytes > request.max_total_bytes:
        raise RequestError(
            f"--max-total-size: the weights of {len(stored.rows)} sub-models have"
            f" {format_count(num_bytes)} bytes, more than {format_count(request.max_total_bytes)}"
        )


def write_pack(
    source: Source,
    stored: StoredSource,
    request: BenchPackRequest,
    file_format: Format,
    progress: Progress,
) -> BenchPack:
    """Export every sub-model of a source, and write the folder; nothing of it stays on an error.

    Raises:
        RequestError: the folder exists.
        WorkError: the outputs of a file differ from the sub-model's, or the disk is full.
    """
    from sortednet_cli.engine.export.alone import write_alone

    out = request.out or free_name(PACKS / f"{source.stem}-{file_format.name}")
    network, submodels = source.network(), source.space.submodels
    with new_folder(out) as staging:
        models: dict[str, str] = {}
        for number, submodel in enumerate(submodels, 1):
            file = Path("models", submodel.name, file_format.file)
            (staging / file).parent.mkdir(parents=True)
            write_alone(source, network, submodel, file_format, (staging / file).parent)
            models[submodel.name] = file.as_posix()
            progress("export", number, len(submodels), submodel.name)
        inputs = source.family.logits_inputs(source.format.random_inputs(1))
        facts = {
            "run": stored.name,
            "digest": root_digest(stored),
            "runtime": file_format.runtime,
            "file_format": file_format.name,
            "inputs": _described(inputs),
            "models": models,
        }
        write_json(staging / "pack.json", facts)
        write_bytes(staging / SCRIPT, _script())
        files = [file for file in (staging / "models").rglob("*") if file.is_file()]
        num_bytes = sum(file.stat().st_size for file in files)
    return BenchPack(out, len(models), num_bytes)


def _script() -> bytes:
    return (resources.files(__package__) / "device_script.py").read_bytes()


def _described(inputs: Inputs) -> list[dict[str, Any]]:
    """Describe a sample's inputs by name; integers, which have a meaning, with their values."""
    named = inputs if isinstance(inputs, dict) else {"inputs": inputs}
    return [
        {
            "name": name,
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": list(tensor.shape[1:]),
            "sample": None if tensor.is_floating_point() else tensor[0].tolist(),
        }
        for name, tensor in named.items()
    ]
