"""Measurement of early-exit thresholds: the confidence at which an exit agrees with full depth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sortednet_cli.data import Dataset
from sortednet_cli.engine.evaluation.batch_sizes import BatchSizes
from sortednet_cli.engine.generation.causal import require_causal
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.errors import RequestError, WorkError
from sortednet_cli.families import Family
from sortednet_cli.machine.device import true_fp32
from sortednet_cli.machine.transfer import fetch
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.space import SubModel
from sortednet_cli.storage.exit_thresholds import ExitThresholds, StoredExit
from sortednet_cli.tasks.chunks import chunks

MAX_TOKENS = 50_000
"""Number of validation tokens that are enough to measure on."""


@dataclass(frozen=True)
class Observed:
    """One exit on N validation tokens: its confidence, and whether it agrees; [N] each."""

    confidence: Tensor
    agrees: Tensor


def measure_thresholds(
    source: Source, submodel: SubModel, data: Dataset, target: float, device: torch.device
) -> ExitThresholds:
    """Choose thresholds with which a fraction `target` of the tokens leaving at each exit agrees.

    Agreement is measured on the validation part, with the true text before each token.

    Raises:
        RequestError: the model is not causal, or no exit below the sub-model was trained.
        WorkError: the validation part has no token.
    """
    require_causal(source)
    network = source.network(device)
    same_width = next(g for g in network.groups(source.space.submodels) if submodel in g)
    group = [s for s in same_width if s.axes.get("depth", 0) <= submodel.axes.get("depth", 0)]
    if len(group) < 2:
        raise RequestError(
            f"{submodel} has no trained exit, so no token can leave early: calibrate a deeper"
            " sub-model"
        )
    observed = _observe(network, group, data, source)
    module = network.at(submodel)
    head, layer = _sizes(network.family, module)
    return choose_thresholds(observed, int(submodel.axes["depth"]), target, head / layer)


def choose_thresholds(
    observed: dict[int, Observed], depth: int, target: float, head_cost: float
) -> ExitThresholds:
    """Choose thresholds from the shallowest exit to the deepest.

    An exit's threshold is the least with which a fraction `target` of the tokens leaving there
    agrees. An exit is left out if evaluating its head costs more than the layers it saves.

    Args:
        observed: observations of the exits, keyed by depth.
        depth: depth of the full model.
        target: least fraction of the tokens leaving at an exit that must agree.
        head_cost: cost of the head, in units of one layer.
    """
    total = len(next(iter(observed.values())).agrees)
    staying = torch.ones(total, dtype=torch.bool)
    wrong, exits = 0, dict[int, StoredExit]()
    for exit_depth in sorted(observed):
        confidence = observed[exit_depth].confidence[staying]
        agrees = observed[exit_depth].agrees[staying]
        threshold = _least_threshold(confidence, agrees, target)
        if threshold is None:
            continue
        leaving = confidence >= threshold
        count = int(leaving.sum())
        if count * (depth - exit_depth) <= head_cost * len(leaving):
            continue
        right = int(agrees[leaving].sum())
        exits[exit_depth] = StoredExit(
            threshold=threshold, share=count / total, agreement=right / count
        )
        wrong += count - right
        staying[staying.nonzero().squeeze(1)[leaving]] = False
    return ExitThresholds(target=target, agreement=1 - wrong / total, tokens=total, exits=exits)


def _least_threshold(confidence: Tensor, agrees: Tensor, target: float) -> float | None:
    """Return the least threshold that reaches the target agreement, or None."""
    if not len(confidence):
        return None
    ordered, order = confidence.sort(descending=True)
    shares = agrees[order].double().cumsum(0) / torch.arange(1, len(order) + 1)
    # Equal confidences leave together, so only the last of them can be the threshold.
    last = torch.cat([ordered[1:] < ordered[:-1], torch.tensor([True])])
    fitting = ((shares >= target) & last).nonzero()
    return float(ordered[fitting[-1, 0]]) if len(fitting) else None


@torch.no_grad()
@true_fp32()
def _observe(
    network: NestedNetwork, group: list[SubModel], data: Dataset, source: Source
) -> dict[int, Observed]:
    """Observe the exits of `group`, which starts with the full depth."""
    shared, task = network.shared_pass(group, training=False), source.task
    depths = [int(submodel.axes["depth"]) for submodel in group[1:]]
    pairs: dict[int, list[tuple[Tensor, Tensor]]] = {depth: [] for depth in depths}
    observed: dict[int, tuple[list[float], list[bool]]] = {depth: ([], []) for depth in depths}

    def keep() -> None:
        for depth, found in fetch(pairs).items():
            for confidence, agrees in found:
                observed[depth][0].extend(confidence.tolist())
                observed[depth][1].extend(agrees.tolist())
            pairs[depth].clear()

    count, at_once = 0, BatchSizes.of(network, source.format).scored
    for inputs, given in data.validation.batches(at_once, network.device):
        targets = task.targets(given, network.device)
        picked = [task.scored(states, targets) for states in shared.states(inputs)]
        for rows in chunks(len(picked[0]), task.num_outputs):
            expected = shared.logits(0, picked[0][rows]).argmax(-1)
            for number, depth in enumerate(pairs, start=1):
                logits = shared.logits(number, picked[number][rows])
                confidence, token = logits.float().softmax(-1).max(-1)
                pairs[depth].append((confidence, token == expected))
        if picked[0].is_cpu:
            keep()  # as `score_parts` does, so that no tensor lies between activations
        count += len(picked[0])
        if count >= MAX_TOKENS:
            break
    if not count:
        raise WorkError("the validation part has no tokens: thresholds cannot be measured")
    keep()
    return {depth: Observed(*map(torch.tensor, found)) for depth, found in observed.items()}


def _sizes(family: Family, module: torch.nn.Module) -> tuple[int, int]:
    """Return the numbers of weights that the head and one layer multiply per token."""
    layer, head = family.layers(module)[0], module.get_output_embeddings().weight  # type: ignore[operator]
    return head.numel(), sum(p.numel() for p in layer.parameters() if p.dim() > 1)
