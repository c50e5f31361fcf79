"""Cut one sub-model out as a standalone folder, and prove that it is the same network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sortednet_cli.data import Dataset
from sortednet_cli.engine.card import model_card
from sortednet_cli.engine.evaluate import ensure_statistics
from sortednet_cli.engine.export import Exporter
from sortednet_cli.engine.fit import versions
from sortednet_cli.engine.source import LoadedRun, Source, root_fields
from sortednet_cli.engine.table import Row
from sortednet_cli.errors import WorkError
from sortednet_cli.families import Inputs
from sortednet_cli.nesting import NestedNetwork, SlicePlan, build_skeleton, stored_tensors
from sortednet_cli.seeds import stream_seed
from sortednet_cli.space import SubModel
from sortednet_cli.storage.artifact import MANIFEST, ArtifactFolder, copy_tokenizer
from sortednet_cli.storage.calibration import copy_calibration
from sortednet_cli.storage.files import new_folder, write_json, write_text
from sortednet_cli.storage.manifest import FORMAT
from sortednet_cli.storage.tensors import (
    TensorEntry,
    TensorFile,
    open_tensors,
    read_tensors,
    write_entries,
    write_tensors,
)

NUM_CHECKED = 4
CHECKED_TOKENS = 32
VIEW_TOLERANCE = 1e-3
"""Largest difference allowed between the artifact's logits and the view module's, relative
to the largest logit: a strided slice may take another matrix kernel than its copy."""


@dataclass(frozen=True)
class Verification:
    """What was checked before the artifact got its name."""

    tensors_equal: bool
    max_abs_diff: float
    samples: int


@dataclass(frozen=True)
class Extracted:
    """A finished artifact."""

    path: Path
    row: Row
    verified: Verification
    loader: str


def extract(
    source: Source,
    submodel: SubModel,
    out: Path,
    data: Dataset | None = None,
    exporter: Exporter | None = None,
) -> Extracted:
    """Write a sub-model as an artifact.

    Args:
        data: the data, needed only where the sub-model has normalisation statistics that
            the source does not store (an artifact cut from an artifact).
        exporter: writes a further file format beside the safetensors file.

    Raises:
        RequestError: `out` exists.
        WorkError: a check failed; nothing is left behind.
    """
    network = source.network()
    if data is not None:
        ensure_statistics(network, [submodel], data, source.task, num_samples=2048)
    plan = network.plan(submodel)
    row = source.rows.get(submodel) or source.row(submodel, {})
    with new_folder(out) as staging:
        folder = ArtifactFolder(staging)
        config = source.family.shrink(submodel)
        write_json(staging / "config.json", source.family.stored_config(config))
        if source.format.kind == "text":
            copy_tokenizer(source.tokenizer, staging)
            copy_calibration(source.path, staging, submodel)
        for name, extra in source.family.extra_files(config).items():
            write_json(staging / name, extra)
        with open_tensors(source.weights_file) as weights:
            statistics = {
                name: tensor
                for name, tensor in network.at(submodel).state_dict().items()
                if name in plan.statistics
            }
            write_entries(folder.weights, _entries(source, submodel, plan, weights, statistics))
            loaded, inputs, logits, verified = _verify(
                source, network, submodel, plan, folder, weights
            )
        if exporter is not None:
            assert isinstance(inputs, Tensor)
            with _one_thread():
                exporter(loaded, inputs, logits, staging)
        manifest = _manifest(source, submodel, row, plan, verified)
        write_json(staging / MANIFEST, manifest)
        write_text(
            staging / "README.md",
            model_card(source, row, verified.samples, [file.name for file in staging.iterdir()]),
        )
    return Extracted(out, row, verified, source.family.loader)


def _entries(
    source: Source,
    submodel: SubModel,
    plan: SlicePlan,
    weights: TensorFile,
    statistics: dict[str, Tensor],
) -> Iterator[TensorEntry]:
    """The artifact's tensors, each read from its slice of the file when it is written."""
    skeleton = build_skeleton(source.family, source.family.shrink(submodel))
    for name, tensor in stored_tensors(skeleton).items():
        own, piece = statistics.get(name), plan.slices.get(name)
        if own is not None:
            load = own.clone
        else:
            assert piece is not None, name
            load = partial(weights.read, piece.source, piece.index)
        yield TensorEntry(name, tensor.dtype, tuple(tensor.shape), load)


def _verify(
    source: Source,
    network: NestedNetwork,
    submodel: SubModel,
    plan: SlicePlan,
    folder: ArtifactFolder,
    weights: TensorFile,
) -> tuple[nn.Module, Inputs, Tensor, Verification]:
    """Load the artifact back as a user would and compare it with what it was cut from."""
    stored = read_tensors(folder.weights)
    for name, tensor in stored.items():
        piece = plan.slices.get(name)
        if piece and not torch.equal(tensor, weights.read(piece.source, piece.index)):
            raise WorkError(f"verification failed: {name} differs from {piece}")
    loaded = source.family.load(folder.path, source.family.shrink(submodel), stored).eval()
    inputs = check_inputs(source)
    with _one_thread(), torch.no_grad():
        logits = source.family.forward(loaded, inputs)
        copied = source.family.forward(network.standalone(submodel), inputs)
        viewed = source.family.forward(network.at(submodel).eval(), inputs)
    if not torch.equal(logits, copied):
        raise WorkError("verification failed: the artifact's outputs differ from its copy's")
    difference = float((logits - viewed).abs().max())
    if difference > VIEW_TOLERANCE * max(1.0, float(logits.abs().max())):
        raise WorkError(f"verification failed: outputs differ from the views by {difference:g}")
    named = inputs if isinstance(inputs, dict) else {"inputs": inputs}
    write_tensors(folder.check, {**named, "logits": logits})
    return loaded, inputs, logits, Verification(True, difference, len(logits))


def check_inputs(source: Source) -> Inputs:
    """A few random samples, the same for every extraction; of texts the first tokens."""
    generator = torch.Generator().manual_seed(stream_seed("check"))
    inputs = source.format.random_inputs(NUM_CHECKED, generator)
    if isinstance(inputs, dict):
        return {name: tensor[:, :CHECKED_TOKENS] for name, tensor in inputs.items()}
    return inputs


@contextmanager
def _one_thread() -> Iterator[None]:
    """With one thread, equal weights give equal bits whatever their layout in memory."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _manifest(
    source: Source, submodel: SubModel, row: Row, plan: SlicePlan, verified: Verification
) -> dict[str, Any]:
    space = source.space.nested_in(submodel)
    nested = [source.rows[s].stored() for s in space.submodels if s in source.rows]
    return {
        "format": FORMAT,
        "run": source.name,
        "parent": source.path.name,
        "submodel": row.stored(),
        "space": space.as_lists(),
        "submodels": nested,
        "plan_digest": plan.digest,
        "loader": source.family.loader,
        "verified": asdict(verified),
        "versions": versions(),
        "data_spec": source.data.model_dump(mode="json"),
        **root_fields(source.family, source.format),
    }


def needs_data(source: Source, submodel: SubModel) -> bool:
    """Whether the sub-model has normalisation statistics that the source does not store."""
    return (
        not isinstance(source, LoadedRun)
        and submodel != source.space.largest
        and bool(source.plan(submodel).statistics)
    )
