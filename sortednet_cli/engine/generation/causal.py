"""Decoders for the causal models of runs, artifacts and stock checkpoints."""

from __future__ import annotations

import torch
from torch import nn

from sortednet_cli.data import TextFormat
from sortednet_cli.engine.generation.decoder import Decoder
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.errors import RequestError
from sortednet_cli.families.transformers.stock_configs import end_tokens, with_end
from sortednet_cli.machine.cuda_graphs import GraphChoice
from sortednet_cli.space import SubModel
from sortednet_cli.storage.artifact import FREQUENT_TOKENS
from sortednet_cli.storage.frequent_tokens import read_frequent
from sortednet_cli.storage.phrases import Continuations, read_phrases
from sortednet_cli.storage.sources import check_causal

_HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def make_decoder(
    source: Source,
    submodel: SubModel,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    cuda_graphs: GraphChoice = "auto",
    end: int | None = None,
    *,
    compiles: bool = False,
) -> Decoder:
    """Make a decoder of a sub-model, with weights in `fp32`, `fp16` or `bf16`.

    Args:
        end: a token that ends a text, besides those of the source.
        compiles: whether passes of one position are compiled.

    Raises:
        RequestError: the source is no causal model, `fp16` cannot hold a weight, or nothing
            compiles the model.
        WorkError: the compiler fails.
    """
    require_causal(source)
    module = source.network(device).at(submodel).eval()
    if (dtype := _HALVES.get(precision)) is not None:
        _halve(module, dtype)
    depths = dict(source.space.axes).get("depth", ())
    ends = end_tokens(with_end(source.generation, end))
    frequent = read_frequent(source.tokenizer)
    vocab_size = int(module.config.vocab_size)  # type: ignore[union-attr, arg-type]
    if max(frequent, default=0) >= vocab_size:
        raise RequestError(
            f"{source.tokenizer / FREQUENT_TOKENS} names a token that the model does not have"
        )
    exits = [int(depth) for depth in depths]
    known = Continuations(read_phrases(source.tokenizer, vocab_size))
    return Decoder(module, exits, ends, cuda_graphs, frequent, known, compiles=compiles)


def _halve(module: nn.Module, dtype: torch.dtype) -> None:
    """Convert the parameters, but not the buffers: rotations need float32."""
    most = torch.finfo(dtype).max
    for name, parameter in module.named_parameters():
        if parameter.detach().abs().max() > most:
            raise RequestError(
                f"--precision fp16: {name} has an entry above {most:g}: take bf16 or fp32"
            )
        parameter.data = parameter.data.to(dtype)


def require_causal(source: Source) -> TextFormat:
    """Return the format of a source's texts; RequestError unless its model is causal."""
    check_causal(source.path, source.format.task)
    assert isinstance(source.format, TextFormat)
    return source.format
