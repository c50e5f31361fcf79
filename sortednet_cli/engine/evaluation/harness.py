"""Scores of sub-models on tasks of lm-eval, the language model evaluation harness.

lm-eval's own class for Hugging Face models gets the sub-model's module, which shares the network's
weights: what it computes is what it computes of the extracted artifact.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from math import isfinite
from typing import Any, cast

from sortednet_cli.data.text.tokenizer import load_tokenizer
from sortednet_cli.engine.evaluation.harness_output import apart, quiet
from sortednet_cli.engine.requests import EvaluateRequest, HarnessRequest, Progress
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.errors import RequestError, WorkError, reason_of, suggestion
from sortednet_cli.families.transformers.stock_configs import of_depth
from sortednet_cli.logs import logger
from sortednet_cli.machine.device import choose_device, true_fp32
from sortednet_cli.machine.memory import MORE_MEMORY, describe_pass, enough_memory
from sortednet_cli.space import SubModel
from sortednet_cli.storage.harness import HarnessScore, add_harness, numbers_of, read_harness
from sortednet_cli.storage.sources import check_causal

BATCH_SIZE = 8
"""Requests in a batch. lm-eval sorts them by length, so that few tokens are padding."""

BOOTSTRAPS = 1000
"""Samples for the standard errors of metrics that have no formula for them."""

_LOCAL = "a task of your own, on files, needs none: see --harness-path"
_NETWORK = ("httpx", "httpcore", "requests", "urllib3", "aiohttp", "huggingface_hub")
"""Packages whose errors say that the network, or the hub behind it, does not answer."""


@dataclass(frozen=True)
class Tasks:
    """Loaded tasks.

    Attributes:
        manager: lm-eval's manager, which made them.
        loaded: tasks and groups of them.
    """

    manager: Any
    loaded: Sequence[Any]


def evaluate_harness(
    source: Source, request: EvaluateRequest, harness: HarnessRequest, progress: Progress
) -> list[Row]:
    """Score the sub-models of a request on tasks of lm-eval, one after another.

    The scores of a run or an artifact are kept in its folder as soon as they are there.

    Returns:
        A row for each sub-model, with `harness`; its other scores are the stored ones.

    Raises:
        RequestError: there is no such task or sub-model, or the model is not causal.
        WorkError: a task's data cannot be had, memory ran out, or lm-eval failed.
    """
    check_causal(source.path, source.format.task)
    read_harness(source.path)  # refuses a damaged file before hours of work
    space = source.space
    submodels = space.submodels if request.every else [space.resolve(request.axes)]
    with apart():
        tasks = load_tasks(harness)
        network = source.network(choose_device(request.device))
        rows = []
        for submodel in submodels:
            with enough_memory(describe_pass([submodel], BATCH_SIZE), MORE_MEMORY):
                scores = _score(source, submodel, network.at(submodel), tasks, harness)
            row = source.row(submodel, _stored_metrics(source, submodel))
            rows.append(replace(row, harness=numbers_of(scores)))
            if source.checks is not None:  # a stock checkpoint is not ours to write into
                add_harness(source.path, submodel, scores)
            progress("harness", len(rows), len(submodels), submodel.name)
    return rows


def load_tasks(harness: HarnessRequest) -> Tasks:
    """Find tasks by their names or files, and load their data.

    lm-eval's own tasks are more than ten thousand files, which are read only if a name is not
    among the user's.

    Raises:
        RequestError: there is no such task, or its file is wrong.
        WorkError: its data cannot be had.
    """
    from lm_eval.tasks import TaskManager

    folder = None if harness.path is None else str(harness.path)
    named = [name for name in harness.tasks if not is_file(name)]
    with _reporting("--harness-path" if folder else "--harness"):
        manager = TaskManager(include_path=folder, include_defaults=False)
        if not set(named) <= set(manager.all_tasks):
            manager = TaskManager(include_path=folder)
    for name in named:
        if name not in manager.all_tasks:
            hint = suggestion(name, manager.all_tasks)
            raise RequestError(
                f"--harness {name}: lm-eval has no such task{hint}; `lm-eval ls tasks` lists them,"
                " and --harness-path FOLDER adds your own"
            )
    loaded: list[Any] = []
    with quiet(logging.DEBUG if logger.isEnabledFor(logging.DEBUG) else logging.ERROR):
        for name in harness.tasks:
            with _reporting(f"--harness {name}"):
                loaded += _outermost(manager.load([name]))
    return Tasks(manager, loaded)


def _outermost(found: Mapping[str, Any]) -> list[Any]:
    """Return what was loaded by one name, without the parts of a group beside it."""
    parts = {name for names in found.get("group_map", {}).values() for name in names}
    both = {**found["tasks"], **found.get("groups", {})}
    return [task for name, task in both.items() if name not in parts]


def is_file(name: str) -> bool:
    """Whether a task is named by its YAML file."""
    return name.endswith((".yaml", ".yml"))


@true_fp32()
def _score(
    source: Source, submodel: SubModel, module: Any, tasks: Tasks, harness: HarnessRequest
) -> dict[str, HarnessScore]:
    """Score one sub-model on all tasks."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from transformers import GenerationConfig

    depth = int(submodel.axes.get("depth", source.family.num_alike_layers))
    module.generation_config = GenerationConfig.from_dict(dict(of_depth(source.generation, depth)))
    tokenizer = load_tokenizer(source.tokenizer)
    if harness.chat and not tokenizer.chat_template:
        raise RequestError(f"--harness-chat: the tokenizer of {source.path} has no chat template")
    with quiet(logging.ERROR):  # it warns of being given a module
        model = HFLM(
            pretrained=module,
            tokenizer=cast(Any, tokenizer),
            backend="causal",
            batch_size=BATCH_SIZE,
        )
    try:
        found = lm_eval.simple_evaluate(
            model,
            tasks=list(tasks.loaded),
            task_manager=tasks.manager,
            limit=harness.limit,
            apply_chat_template=harness.chat,
            bootstrap_iters=BOOTSTRAPS,
            log_samples=False,
        )
    except (RuntimeError, ValueError, TypeError, KeyError, AssertionError) as error:
        raise WorkError(f"lm-eval could not score {submodel}: {reason_of(error)}") from error
    return _scores(cast(Mapping[str, Any], found), harness)


def _scores(found: Mapping[str, Any], harness: HarnessRequest) -> dict[str, HarnessScore]:
    """Take the scores of what was asked for out of lm-eval's results: not of a group's parts."""
    parts = {name for names in found.get("group_subtasks", {}).values() for name in names}
    counts = {name: count["effective"] for name, count in found["n-samples"].items()}
    scores = {}
    for name, metrics in found["results"].items():
        if name in parts:
            continue
        inside = found.get("group_subtasks", {}).get(name) or [name]
        numbers = {
            metric: float(value)
            for metric, value in metrics.items()
            if isinstance(value, int | float) and "," in metric and isfinite(value)
        }
        scores[name] = HarnessScore(
            metrics=numbers,
            samples=sum(counts.get(part, 0) for part in inside),
            chat=harness.chat,
            version=version("lm-eval"),
        )
    return scores


def _stored_metrics(source: Source, submodel: SubModel) -> Mapping[str, Mapping[str, float]]:
    row = source.rows.get(submodel)
    return {} if row is None else row.metrics


@contextmanager
def _reporting(where: str) -> Iterator[None]:
    """Say what is wrong with a task, or with the way to its data."""
    try:
        yield
    except Exception as error:  # a file, a builder or a server can fail in any way
        reason = reason_of(error)
        if _lacks_network(error):
            raise WorkError(
                f"{where}: its data is not here, and cannot be downloaded ({reason}); {_LOCAL}"
            ) from error
        raise RequestError(f"{where}: lm-eval cannot read it: {reason}") from error


def _lacks_network(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is one of a connection."""
    while error is not None:
        if isinstance(error, ConnectionError) or type(error).__module__.startswith(_NETWORK):
            return True
        error = error.__cause__ or error.__context__
    return False
