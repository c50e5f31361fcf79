"""Whether a search space has what the rule of a training draws from it."""

from __future__ import annotations

from sortednet_cli.errors import RequestError
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec.models import TrainSpec


def check_rule(spec: TrainSpec, space: SearchSpace) -> None:
    """RequestError if the search space does not allow the rule."""
    if spec.submodel is not None:
        try:
            space.named(spec.submodel)
        except RequestError as error:
            raise RequestError(f"train.submodel: {error}") from error
    if spec.draws > len(space):
        raise RequestError(
            f"train.draws = {spec.draws}: the search space has {len(space)} sub-models"
        )
    if spec.rule not in ("sum", "sandwich-sum"):
        return
    depths = dict(space.axes).get("depth")
    if depths is None:
        raise RequestError(f"train.rule: the rule '{spec.rule}' needs a depth axis in [space]")
    if spec.depth_weights is not None and len(spec.depth_weights) != len(depths):
        raise RequestError(
            f"train.depth_weights: {len(spec.depth_weights)} weights for {len(depths)} depths"
        )
