"""Metadata of a model card, in the form that the Hugging Face Hub reads."""

from __future__ import annotations

import math

from huggingface_hub import EvalResult, ModelCardData

from sortednet_cli.engine.sources.source import Source
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.spec.families import CAUSAL_TASKS

_SPLIT = "test"
_HUB = "hub"


def card_metadata(source: Source, row: Row) -> str:
    """Make the front matter of a sub-model's card, in YAML between its two lines of dashes.

    What is not known is left out, and so is the licence, which the user chooses.
    """
    task = _task(source)
    results = _results(source, row, task)
    data = ModelCardData(
        library_name=source.family.library,
        pipeline_tag=task,
        tags=["sortednet"],
        base_model=source.base_model,
        datasets=_data_sets(source),
        model_name=f"{source.name} {row.submodel}" if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _task(source: Source) -> str:
    """The hub's name of the task."""
    if source.format.task in CAUSAL_TASKS:
        return "text-generation"
    if source.format.task == "masked-lm":
        return "fill-mask"
    return f"{source.format.kind}-classification"


def _data_sets(source: Source) -> list[str] | None:
    """The data sets of the hub that it was trained on; a path there is `NAME:CONFIG`."""
    path = source.data.path if source.data.source == _HUB else None
    return [path.partition(":")[0]] if path else None


def _results(source: Source, row: Row, task: str) -> list[EvalResult]:
    """The scores on the test part, as the hub's `model-index`."""
    data = source.format.source
    return [
        EvalResult(
            task_type=task,
            dataset_type=data,
            dataset_name=data,
            dataset_split=_SPLIT,
            metric_type=name,
            metric_value=value,
        )
        for name, value in row.metrics.get(_SPLIT, {}).items()
        if math.isfinite(value)
    ]
