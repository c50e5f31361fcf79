"""What can be told of a training before torch is imported, which takes seconds.

Whoever relies on it asks again, through the same functions.
"""

from __future__ import annotations

from sortednet_cli.engine.training.trackers import WITHOUT, check_trackers
from sortednet_cli.errors import RequestError, listed
from sortednet_cli.rules import make_rule
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import RunSpec
from sortednet_cli.spec.data_sources import find_data
from sortednet_cli.spec.factories import missing_module
from sortednet_cli.spec.families import family_facts
from sortednet_cli.storage.first_weights import find_weights
from sortednet_cli.storage.pretrained import find_teacher


def check_begun(spec: RunSpec) -> None:
    """RequestError if what a training goes on with is not there any more."""
    make_rule(spec.train, SearchSpace.of(spec.space))
    try:
        check_trackers(spec.train.tracker_names)
    except RequestError as error:
        raise RequestError(f"{error}; or, to go on without it, {WITHOUT}") from error
    find_data(spec.data)


def check_new(spec: RunSpec) -> None:
    """RequestError if the rule does not fit, or trackers, data or weights are not there."""
    make_rule(spec.train, SearchSpace.of(spec.space))
    check_trackers(spec.train.tracker_names)
    find_data(spec.data)
    if spec.model.factory and (fix := missing_module(spec.model.factory)):
        raise RequestError(f"model.factory: there is no module for {spec.model.factory!r}{fix}")
    if spec.model.pretrained is not None:
        find_weights(spec.model.pretrained)
    if spec.train.teacher is not None:
        find_teacher(spec.train.teacher)


def check_plan(spec: RunSpec) -> None:
    """RequestError if a plan, which reads no data and no pretrained model, cannot be made."""
    make_rule(spec.train, SearchSpace.of(spec.space))
    sizes = family_facts(spec.model.family).sizes
    missing = [key for key in sizes if key not in spec.model.config]
    if spec.model.pretrained is not None and missing:
        raise RequestError(
            f"model.config: a plan reads no pretrained model: set {listed(missing)}"
            f" as {spec.model.pretrained} has them"
        )
