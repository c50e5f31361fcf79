"""Extraction: write one sub-model as a standalone folder, and verify it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sortednet_cli.data import Dataset
from sortednet_cli.engine.evaluation.batch_sizes import BatchSizes
from sortednet_cli.engine.evaluation.score import ensure_statistics
from sortednet_cli.engine.export.card import model_card
from sortednet_cli.engine.export.formats import Format
from sortednet_cli.engine.export.verify import (
    Verification,
    should_compare_outputs,
    verify_outputs,
    verify_shapes,
    verify_tensors,
)
from sortednet_cli.engine.requests import ExtractRequest
from sortednet_cli.engine.sources.root import root_fields
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.families.transformers.stock_configs import GENERATION, of_depth
from sortednet_cli.machine.versions import versions
from sortednet_cli.nesting import (
    NestedNetwork,
    SlicePlan,
    build_skeleton,
    own_norms,
    stored_tensors,
)
from sortednet_cli.space import SubModel
from sortednet_cli.spec.families import CAUSAL_TASKS
from sortednet_cli.storage.artifact import (
    MANIFEST,
    ArtifactFolder,
    copy_preprocessor,
    copy_tokenizer,
)
from sortednet_cli.storage.checks import checks_of, files_under, write_sealed
from sortednet_cli.storage.exit_thresholds import FILE as CALIBRATION
from sortednet_cli.storage.exit_thresholds import copy_thresholds
from sortednet_cli.storage.files import new_folder, read_json, write_json, write_text
from sortednet_cli.storage.manifest import FORMAT
from sortednet_cli.storage.tensor_writer import TensorEntry, write_shards
from sortednet_cli.storage.tensors import TensorFiles


@dataclass(frozen=True)
class Extracted:
    """A finished artifact.

    Attributes:
        path: its folder.
        row: the sub-model with its costs and scores.
        verified: what was verified.
        loader: what loads it, for people.
    """

    path: Path
    row: Row
    verified: Verification
    loader: str


def extract(
    source: Source,
    submodel: SubModel,
    out: Path,
    data: Dataset | None = None,
    further: Format | None = None,
    *,
    max_shard_bytes: int = ExtractRequest.max_shard_bytes,
    check_outputs: bool | None = None,
) -> Extracted:
    """Write a sub-model as an artifact, reading and writing its tensors block by block.

    Args:
        data: training data, needed only if `needs_data` is true or the further format is lossy.
        further: a further format to write, for which outputs are always compared.
        max_shard_bytes: most bytes of one weight file; larger weights are split.
        check_outputs: whether to compare outputs; None decides by the size of the source.

    Raises:
        RequestError: `out` exists, or the source is damaged.
        WorkError: verification failed; nothing is left behind.
    """
    if check_outputs is None:
        check_outputs = should_compare_outputs(source)
    check_outputs = check_outputs or further is not None
    plan = source.plan(submodel)
    network = _load_network(source, submodel, plan, data, check_outputs)
    row = source.rows.get(submodel) or source.row(submodel, {})
    source.verify_weights()
    with new_folder(out) as staging, source.open_weights() as weights:
        folder = ArtifactFolder(staging)
        _write_config(source, submodel, plan, weights, staging)
        entries = _entries(source, submodel, plan, weights, _statistics(network, submodel, plan))
        files = write_shards(folder.weights, entries, max_shard_bytes)
        verify_tensors(source, plan, files, weights)
        if network is not None and check_outputs:
            verified = verify_outputs(source, network, submodel, folder, further, data)
        else:
            verified = verify_shapes(source, submodel, files)
        card = model_card(source, row, verified, staging, further)
        write_text(staging / "README.md", card)
        checksums = {"files": checks_of(staging, files_under(staging, [CALIBRATION]), files)}
        manifest = _manifest(source, submodel, row, plan, verified)
        write_sealed(staging / MANIFEST, {**manifest, **checksums})
    return Extracted(out, row, verified, source.family.loader)


def needs_data(source: Source, submodel: SubModel) -> bool:
    """Whether `extract` must measure normalisation statistics, which needs training data."""
    return (
        source.measures_statistics
        and submodel != source.space.largest
        and bool(source.plan(submodel).statistics)
    )


def _load_network(
    source: Source, submodel: SubModel, plan: SlicePlan, data: Dataset | None, check_outputs: bool
) -> NestedNetwork | None:
    """Load the source's network if outputs or statistics need it, and measure the latter.

    Large networks are not loaded: they have no statistics, and their outputs are not compared.
    """
    if not (check_outputs or plan.statistics):
        return None
    network = source.network()
    if needs_data(source, submodel):
        assert data is not None
        sizes = BatchSizes.of(network, source.format)
        ensure_statistics(network, [submodel], data, sizes, num_samples=2048)
    return network


def _write_config(
    source: Source, submodel: SubModel, plan: SlicePlan, weights: TensorFiles, folder: Path
) -> None:
    """Write the files that the stock loader needs besides the weights."""
    family, config = source.family, source.family.shrink(submodel)
    names = plan.sources & weights.names  # a tied tensor is stored under one of its names
    dtype = _dtype(source, {weights.dtype(name) for name in names})
    write_json(folder / "config.json", family.stored_config(config, dtype))
    if source.format.kind == "text":
        copy_tokenizer(source.tokenizer, folder)
        copy_thresholds(source.path, folder, submodel)
    else:
        copy_preprocessor(source.path, folder)
    if source.format.task in CAUSAL_TASKS:
        depth = int(submodel.axes.get("depth", family.num_alike_layers))
        generation = of_depth(source.generation, depth)
        write_json(folder / GENERATION, generation)


def _dtype(source: Source, types: Collection[torch.dtype]) -> str:
    """Return the dtype in which the stock loader should load the weights.

    It is the one in the source's configuration, or else the widest of the tensors' `types`.
    """
    file = source.path / "config.json"
    config = read_json(file) if file.is_file() else {}
    widest = max(types, key=lambda dtype: dtype.itemsize)
    return config.get("dtype") or config.get("torch_dtype") or str(widest).removeprefix("torch.")


def _statistics(
    network: NestedNetwork | None, submodel: SubModel, plan: SlicePlan
) -> dict[str, Tensor]:
    """Return the sub-model's normalisation statistics; empty if it has none."""
    if network is None:
        return {}
    tensors = network.at(submodel).state_dict()
    return {name: tensors[name] for name in plan.statistics}


def _entries(
    source: Source,
    submodel: SubModel,
    plan: SlicePlan,
    weights: TensorFiles,
    statistics: dict[str, Tensor],
) -> Iterator[TensorEntry]:
    """Yield the artifact's tensors; each is read from its slice of the files when written."""
    skeleton = build_skeleton(source.family, source.family.shrink(submodel))
    for name, tensor in stored_tensors(skeleton).items():
        own = statistics.get(name)
        if own is not None:
            yield TensorEntry(name, own.dtype, tuple(own.shape), partial(_one_block, own))
            continue
        piece = plan.slices[name]
        blocks = partial(weights.blocks, piece.source, piece.segments)
        yield TensorEntry(name, weights.dtype(piece.source), tuple(tensor.shape), blocks)


def _one_block(tensor: Tensor) -> list[Tensor]:
    return [tensor]


def _manifest(
    source: Source, submodel: SubModel, row: Row, plan: SlicePlan, verified: Verification
) -> dict[str, Any]:
    """Return the manifest, without the checksums of the files."""
    space = own_norms(source.family).space_within(source.space, submodel)
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
        "base_model": source.base_model,
        "versions": versions(),
        "data_spec": source.data.model_dump(mode="json"),
        **root_fields(source.family, source.format),
    }
