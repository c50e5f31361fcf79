"""Verification of a written artifact: its tensors, and its outputs unless it is too large."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sortednet_cli.data import Dataset
from sortednet_cli.engine.export.formats import Exported, Format
from sortednet_cli.engine.export.further import export
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.errors import RequestError, WorkError
from sortednet_cli.families import Inputs
from sortednet_cli.nesting import NestedNetwork, SlicePlan, build_skeleton, stored_tensors
from sortednet_cli.seeds import stream_seed
from sortednet_cli.space import SubModel
from sortednet_cli.storage.artifact import ArtifactFolder
from sortednet_cli.storage.tensor_writer import write_tensors
from sortednet_cli.storage.tensors import TensorFiles, equal_blocks, open_tensors, read_tensors

NUM_SAMPLES = 4
"""Inputs for which outputs are compared."""

MAX_TOKENS = 32
"""Tokens of each of these inputs, if they are texts."""

VIEW_TOLERANCE = 1e-3
"""Largest difference allowed between logits of the artifact and of the view module, relative to
the largest logit. They can differ because a strided slice and its copy may use different kernels.
"""

MAX_BYTES_FOR_OUTPUTS = 1 << 31
"""Largest weights of a source for which `should_compare_outputs` is true: both models must fit
into memory."""


@dataclass(frozen=True)
class Verification:
    """What was verified before the artifact got its name.

    Attributes:
        tensors_equal: whether every tensor equals its slice of the source; always true.
        max_abs_diff: largest difference between the logits of the artifact and of the view module;
            None if outputs were not compared.
        samples: number of inputs whose outputs were compared.
        exported: the further file; None if there is none.
    """

    tensors_equal: bool
    max_abs_diff: float | None
    samples: int
    exported: Exported | None = None


def should_compare_outputs(source: Source) -> bool:
    """Whether the source is small enough to compare outputs by default."""
    size = sum(path.stat().st_size for path in source.weight_files if path.is_file())
    return size <= MAX_BYTES_FOR_OUTPUTS


def verify_tensors(
    source: Source, plan: SlicePlan, files: Collection[Path], weights: TensorFiles
) -> None:
    """Read the written tensors back and compare each with its slice of the source.

    Args:
        files: the artifact's weight files.
        weights: the source's open weights.

    Raises:
        RequestError: the source's tensor holds NaN, so that it does not even equal itself.
        WorkError: a tensor differs.
    """
    with open_tensors(*files) as written:
        for name in sorted(written.names):
            piece = plan.slices.get(name)
            if piece is None:
                continue
            # The blocks of the two sides may have different numbers of rows.
            actual = written.blocks(name)
            expected = weights.blocks(piece.source, piece.segments)
            if not equal_blocks(actual, expected):
                again = weights.blocks(piece.source, piece.segments)
                _refuse_nan(source.path, piece.source, again)
                raise WorkError(f"verification failed: {name} differs from {piece}")


def verify_shapes(source: Source, submodel: SubModel, files: Collection[Path]) -> Verification:
    """Compare names and shapes of the written tensors with those of the stock class.

    This replaces `verify_outputs` for models that are too large to run.

    Raises:
        WorkError: they differ.
    """
    skeleton = build_skeleton(source.family, source.family.shrink(submodel))
    expected = {name: tuple(tensor.shape) for name, tensor in stored_tensors(skeleton).items()}
    with open_tensors(*files) as written:
        actual = {name: tuple(written.slices(name).get_shape()) for name in written.names}
    if actual != expected:
        raise WorkError(
            f"verification failed: the artifact's tensors are not those of {source.family.loader}"
        )
    return Verification(True, None, 0)


def verify_outputs(
    source: Source,
    network: NestedNetwork,
    submodel: SubModel,
    folder: ArtifactFolder,
    further: Format | None,
    data: Dataset | None = None,
) -> Verification:
    """Load the artifact as a user would, and compare its logits with the sub-model's.

    They must equal those of a contiguous copy of the sub-model, and be within `VIEW_TOLERANCE` of
    those of the view module. Inputs and logits are stored in the artifact. The loaded model maps
    the artifact's files into memory and must not outlive this function, because Windows cannot
    rename a folder of mapped files.

    Args:
        network: the source's nested network.
        further: a further format to write; its outputs are compared too.
        data: training data, needed only if that format is lossy.

    Raises:
        RequestError: the logits are not finite.
        WorkError: the logits differ.
    """
    family = source.family
    stored = read_tensors(*folder.weight_files)
    loaded = family.load(folder.path, family.shrink(submodel), stored).eval()
    loaded.float()
    inputs = _random_inputs(source)
    with _one_thread(), torch.no_grad():
        logits = family.forward(loaded, inputs)
        copy_logits = family.forward(network.standalone(submodel), inputs)
        view_logits = family.forward(network.at(submodel).eval(), inputs)
    if not logits.isfinite().all():
        raise RequestError(f"{source.path}: the outputs of {submodel} are not finite")
    difference = _compare(logits, copy_logits, view_logits)
    tensors = inputs if isinstance(inputs, dict) else {"inputs": inputs}
    write_tensors(folder.check, {**tensors, "logits": logits})
    exported = None
    if further is not None:
        with _one_thread():
            exported = export(
                source, loaded, inputs, data if further.lossy else None, folder, further
            )
    return Verification(True, difference, len(logits), exported)


def _compare(logits: Tensor, copy_logits: Tensor, view_logits: Tensor) -> float:
    """Return the largest difference from the view module's logits; WorkError if logits differ."""
    if not torch.equal(logits, copy_logits):
        raise WorkError(
            "verification failed: the artifact's outputs differ from those of a copy in memory"
        )
    difference = float((logits - view_logits).abs().max())
    if difference > VIEW_TOLERANCE * max(1.0, float(logits.abs().max())):
        raise WorkError(
            "verification failed: the artifact's outputs differ from those of the view module"
            f" by {difference:g}"
        )
    return difference


def _refuse_nan(path: Path, name: str, blocks: Iterable[Tensor]) -> None:
    if any(block.isnan().any() for block in blocks):
        raise RequestError(f"{path}: {name} holds NaN, so no sub-model of it would work")


def _random_inputs(source: Source) -> Inputs:
    """Make a few random samples, the same for every extraction, and shorten texts."""
    generator = torch.Generator().manual_seed(stream_seed("check"))
    inputs = source.format.random_inputs(NUM_SAMPLES, generator)
    if isinstance(inputs, dict):
        return {name: tensor[:, :MAX_TOKENS] for name, tensor in inputs.items()}
    return inputs


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread, so that equal weights give equal bits whatever their memory layout."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
