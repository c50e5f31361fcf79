"""Cut one sub-model out as a standalone folder, and prove that it is the same network."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
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
from sortednet_cli.engine.sources.root import root_fields
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.errors import RequestError, WorkError
from sortednet_cli.families import Inputs
from sortednet_cli.families.transformers.stock_configs import GENERATION, of_depth
from sortednet_cli.machine.versions import versions
from sortednet_cli.nesting import NestedNetwork, SlicePlan, build_skeleton, stored_tensors
from sortednet_cli.seeds import stream_seed
from sortednet_cli.space import SubModel
from sortednet_cli.spec.families import CAUSAL_TASKS
from sortednet_cli.storage.artifact import MANIFEST, ArtifactFolder, copy_tokenizer
from sortednet_cli.storage.checks import checks_of, files_under, write_sealed
from sortednet_cli.storage.exit_thresholds import FILE as CALIBRATION
from sortednet_cli.storage.exit_thresholds import copy_thresholds
from sortednet_cli.storage.files import new_folder, read_json, write_json, write_text
from sortednet_cli.storage.manifest import FORMAT
from sortednet_cli.storage.tensor_writer import TensorEntry, write_shards, write_tensors
from sortednet_cli.storage.tensors import TensorFiles, equal_blocks, open_tensors, read_tensors

NUM_CHECKED = 4
CHECKED_TOKENS = 32
VIEW_TOLERANCE = 1e-3
"""Largest difference allowed between the artifact's logits and the view module's, relative
to the largest logit: a strided slice may take another matrix kernel than its copy."""


MOST_SHARD_BYTES = 5_000_000_000
"""Size of a file of weights, unless a tensor alone is larger."""

MOST_CHECKED_BYTES = 1 << 31
"""Outputs are compared where the source's weights are no larger: it takes both in memory."""


@dataclass(frozen=True)
class Verification:
    """What was checked before the artifact got its name.

    Every tensor always is. `samples` outputs were, and `max_abs_diff` is None if that is none.
    """

    tensors_equal: bool
    max_abs_diff: float | None
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
    further: Format | None = None,
    *,
    most_shard_bytes: int = MOST_SHARD_BYTES,
    check_outputs: bool | None = None,
) -> Extracted:
    """Write a sub-model as an artifact, block by block of its tensors.

    Args:
        data: the data, needed only where the sub-model has normalisation statistics that
            the source does not store (an artifact cut from an artifact).
        further: the format of a file to be written beside the safetensors file. Its outputs are
            compared too, whatever `check_outputs` says.
        most_shard_bytes: larger weights are written as several files with an index.
        check_outputs: whether to run the artifact and the source's views beside each other;
            by default if the source's weights are at most `MOST_CHECKED_BYTES`.

    Raises:
        RequestError: `out` exists.
        WorkError: a check failed; nothing is left behind.
    """
    if further is not None:
        check_outputs = True
    elif check_outputs is None:
        size = sum(path.stat().st_size for path in source.weight_files if path.is_file())
        check_outputs = size <= MOST_CHECKED_BYTES
    plan = source.plan(submodel)
    # Loading the whole source is for what needs it: statistics belong to small networks.
    network = source.network() if check_outputs or plan.statistics else None
    if network is not None and data is not None:
        sizes = BatchSizes.of(network, source.format)
        ensure_statistics(network, [submodel], data, sizes, num_samples=2048)
    row = source.rows.get(submodel) or source.row(submodel, {})
    source.verify_weights()
    with new_folder(out) as staging, source.open_weights() as weights:
        folder = ArtifactFolder(staging)
        _write_config(source, submodel, plan, weights, staging)
        files = write_shards(
            folder.weights,
            _entries(source, submodel, plan, weights, _statistics(network, submodel, plan)),
            most_shard_bytes,
        )
        _check_tensors(source, plan, files, weights)
        verified = Verification(True, None, 0)
        if network is not None and check_outputs:
            verified = _check_outputs(source, network, submodel, folder, further)
        else:
            _check_names(source, submodel, files)
        card = model_card(source, row, verified.samples, staging, further)
        write_text(staging / "README.md", card)
        listed = {"files": checks_of(staging, files_under(staging, [CALIBRATION]), files)}
        manifest = _manifest(source, submodel, row, plan, verified)
        write_sealed(staging / MANIFEST, {**manifest, **listed})
    return Extracted(out, row, verified, source.family.loader)


def _write_config(
    source: Source, submodel: SubModel, plan: SlicePlan, weights: TensorFiles, folder: Path
) -> None:
    """Write what the stock loader wants beside the weights."""
    family, config = source.family, source.family.shrink(submodel)
    sources = plan.sources & weights.names  # a tied tensor is stored by one of its names
    dtype = _dtype(source, {weights.dtype(name) for name in sources})
    write_json(folder / "config.json", family.stored_config(config, dtype))
    if source.format.kind == "text":
        copy_tokenizer(source.tokenizer, folder)
        copy_thresholds(source.path, folder, submodel)
    if source.format.task in CAUSAL_TASKS:
        depth = int(submodel.axes.get("depth", family.num_alike_layers))
        generation = of_depth(source.generation, depth)
        write_json(folder / GENERATION, generation)


def _dtype(source: Source, types: Collection[torch.dtype]) -> str:
    """Type that the stock loader takes the weights in: as for the source, or their widest."""
    file = source.path / "config.json"
    told = read_json(file) if file.is_file() else {}
    widest = max(types, key=lambda dtype: dtype.itemsize)
    return told.get("dtype") or told.get("torch_dtype") or str(widest).removeprefix("torch.")


def _statistics(
    network: NestedNetwork | None, submodel: SubModel, plan: SlicePlan
) -> dict[str, Tensor]:
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
    """The artifact's tensors, each read from its slice of the files when it is written."""
    skeleton = build_skeleton(source.family, source.family.shrink(submodel))
    for name, tensor in stored_tensors(skeleton).items():
        own = statistics.get(name)
        if own is not None:
            yield TensorEntry(name, own.dtype, tuple(own.shape), partial(_whole, own))
            continue
        piece = plan.slices[name]
        blocks = partial(weights.blocks, piece.source, piece.shape)
        yield TensorEntry(name, weights.dtype(piece.source), tuple(tensor.shape), blocks)


def _whole(tensor: Tensor) -> list[Tensor]:
    return [tensor]


def _refuse_nan(path: Path, name: str, values: Iterable[Tensor]) -> None:
    """RequestError for values that equal nothing, themselves included."""
    if any(block.isnan().any() for block in values):
        raise RequestError(f"{path}: {name} holds NaN: nothing cut out of it would work")


def _check_tensors(
    source: Source, plan: SlicePlan, files: Collection[Path], weights: TensorFiles
) -> None:
    """Read back what was written and compare it with what it was cut from."""
    with open_tensors(*files) as written:
        for name in sorted(written.names):
            piece = plan.slices.get(name)
            if piece is None:
                continue
            found = written.blocks(name, piece.shape)
            # Blocks are cut by the rows of a file: each side is read at the other's pace.
            expected = weights.blocks(piece.source, piece.shape)
            if not equal_blocks(found, expected):
                _refuse_nan(source.path, piece.source, weights.blocks(piece.source, piece.shape))
                raise WorkError(f"verification failed: {name} differs from {piece}")


def _check_names(source: Source, submodel: SubModel, files: Collection[Path]) -> None:
    """Without running it: the stock class of the configuration has these very tensors."""
    skeleton = build_skeleton(source.family, source.family.shrink(submodel))
    wanted = {name: tuple(tensor.shape) for name, tensor in stored_tensors(skeleton).items()}
    with open_tensors(*files) as written:
        found = {name: tuple(written.slices(name).get_shape()) for name in written.names}
    if found != wanted:
        raise WorkError(f"verification failed: {source.family.loader} has other tensors")


def _check_outputs(
    source: Source,
    network: NestedNetwork,
    submodel: SubModel,
    folder: ArtifactFolder,
    further: Format | None,
) -> Verification:
    """Load the artifact back as a user would, and run it beside what it was cut from.

    What was loaded maps the artifact's files, and ends here: Windows renames no folder of theirs.
    """
    stored = read_tensors(*folder.weight_files)
    loaded = source.family.load(folder.path, source.family.shrink(submodel), stored).eval()
    loaded.float()
    inputs = check_inputs(source)
    with _one_thread(), torch.no_grad():
        logits = source.family.forward(loaded, inputs)
        copied = source.family.forward(network.standalone(submodel), inputs)
        viewed = source.family.forward(network.at(submodel).eval(), inputs)
    if not logits.isfinite().all():
        raise RequestError(f"{source.path}: the outputs of {submodel} are no finite numbers")
    if not torch.equal(logits, copied):
        raise WorkError("verification failed: the artifact's outputs differ from its copy's")
    difference = float((logits - viewed).abs().max())
    if difference > VIEW_TOLERANCE * max(1.0, float(logits.abs().max())):
        raise WorkError(f"verification failed: outputs differ from the views by {difference:g}")
    named = inputs if isinstance(inputs, dict) else {"inputs": inputs}
    write_tensors(folder.check, {**named, "logits": logits})
    if further is not None:
        with _one_thread():
            further.export(loaded, inputs, logits, folder.path)
    return Verification(True, difference, len(logits))


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
        source.measures_statistics
        and submodel != source.space.largest
        and bool(source.plan(submodel).statistics)
    )
