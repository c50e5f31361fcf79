"""Thresholds for early exit: how sure each exit must be to say what the whole model says."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sortednet_cli.data import Dataset
from sortednet_cli.engine.evaluation.batch_sizes import BatchSizes
from sortednet_cli.engine.generation.causal import require_causal
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.errors import RequestError, WorkError
from sortednet_cli.machine.device import true_fp32
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.space import SubModel
from sortednet_cli.storage.calibration import Calibration, StoredExit
from sortednet_cli.tasks.chunks import chunks

MOST_TOKENS = 50_000


@dataclass(frozen=True)
class Observed:
    """One exit over the validation tokens: its confidence and whether it is right, [N] each."""

    confidence: Tensor
    agrees: Tensor


def calibrate(
    source: Source, submodel: SubModel, data: Dataset, target: float, device: torch.device
) -> Calibration:
    """Find thresholds so that a share `target` of the tokens leaving at each exit agrees.

    Tokens are those of the validation part, each after its own true text.

    Raises:
        RequestError: the model is no causal one, or no exit lies below the sub-model.
        WorkError: there is no token to measure.
    """
    require_causal(source)
    network = source.network(device)
    shallower = [s for s in network.groups(source.space.submodels) if submodel in s]
    group = [s for s in shallower[0] if s.axes.get("depth", 0) <= submodel.axes.get("depth", 0)]
    if len(group) < 2:
        raise RequestError(f"{submodel} has no trained exit: nothing can leave early")
    observed = _observe(network, group, data, source)
    module = network.at(submodel)
    head, layer = _sizes(module)
    return choose_thresholds(observed, int(submodel.axes["depth"]), target, head / layer)


def choose_thresholds(
    observed: dict[int, Observed], depth: int, target: float, head_cost: float
) -> Calibration:
    """Choose thresholds from the shallowest exit to the deepest.

    An exit's threshold is the least at which the tokens that leave there agree to `target`;
    an exit is left out where its head costs more than the layers it saves.

    Args:
        observed: by depth.
        depth: of the whole model.
        target: least share of tokens leaving at an exit that agree.
        head_cost: of the head, in layers.
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
    return Calibration(target=target, agreement=1 - wrong / total, tokens=total, exits=exits)


def _least_threshold(confidence: Tensor, agrees: Tensor, target: float) -> float | None:
    """The least confidence above which a share `target` agrees; None where there is none."""
    if not len(confidence):
        return None
    ordered, order = confidence.sort(descending=True)
    shares = agrees[order].double().cumsum(0) / torch.arange(1, len(order) + 1)
    # Equal confidences leave together: only the last of them can bear the threshold.
    last = torch.cat([ordered[1:] < ordered[:-1], torch.tensor([True])])
    fitting = ((shares >= target) & last).nonzero()
    return float(ordered[fitting[-1, 0]]) if len(fitting) else None


@torch.no_grad()
@true_fp32()
def _observe(
    network: NestedNetwork, group: list[SubModel], data: Dataset, source: Source
) -> dict[int, Observed]:
    """Confidence and agreement of the exits of `group`, the whole model first in it."""
    shared, task = network.shared_pass(group, training=False), source.task
    found: dict[int, list[tuple[Tensor, Tensor]]] = {int(s.axes["depth"]): [] for s in group[1:]}
    count, at_once = 0, BatchSizes.of(network, source.format).scored
    for inputs, targets in data.validation.batches(at_once, network.device):
        picked = [task.scored(states, targets)[0] for states in shared.states(inputs)]
        for rows in chunks(len(picked[0]), task.num_outputs):
            says = shared.logits(0, picked[0][rows]).argmax(-1)
            for number, depth in enumerate(found, start=1):
                logits = shared.logits(number, picked[number][rows])
                share, token = logits.float().softmax(-1).max(-1)
                found[depth].append((share.cpu(), (token == says).cpu()))
        count += len(picked[0])
        if count >= MOST_TOKENS:
            break
    if not count:
        raise WorkError("the validation part has no token to calibrate by")
    return {
        depth: Observed(torch.cat([c for c, _ in pairs]), torch.cat([a for _, a in pairs]))
        for depth, pairs in found.items()
    }


def _sizes(module: torch.nn.Module) -> tuple[int, int]:
    """Weights that the head and a layer multiply with, for a token."""
    layer = module.get_submodule("model.layers.0")
    head = module.get_parameter("lm_head.weight")
    return head.numel(), sum(p.numel() for p in layer.parameters() if p.dim() > 1)
