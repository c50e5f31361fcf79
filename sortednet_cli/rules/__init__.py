"""Rules: which sub-models a micro-batch trains. One file a rule; no torch.

A rule of another package is a subclass of `Rule`, named by an entry point of the group
`sortednet.rules`. Its own settings stand in the table `[train.rule_options]`.
"""

from __future__ import annotations

from math import isclose
from random import Random

from pydantic import ValidationError

from sortednet_cli.errors import RequestError
from sortednet_cli.rules.base import Phase, Rule, Share, equal_shares
from sortednet_cli.rules.phases import largest_first, smallest_first
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import TrainSpec
from sortednet_cli.spec.fields import SpecModel
from sortednet_cli.spec.load import explain
from sortednet_cli.spec.vocabulary import RULES

__all__ = ["Phase", "Rule", "Share", "SpecModel", "equal_shares", "make_rule"]


def make_rule(train: TrainSpec, space: SearchSpace) -> Rule:
    """Make the rule that a spec names.

    Raises:
        RequestError: the search space does not allow it, or its options are wrong.
    """
    kind: type[Rule] = RULES.load(train.rule, Rule)
    _check_options(kind, train)
    kind.check(train, space)
    if train.rule not in RULES.own:
        _check_draw(train.rule, kind(train, space))
    if train.largest_first:
        return largest_first(kind, train, space)
    if train.smallest_first:
        return smallest_first(kind, train, space)
    return kind(train, space)


def _check_options(kind: type[Rule], train: TrainSpec) -> None:
    """RequestError, one line for each wrong key, unless the rule takes `[train.rule_options]`."""
    model, table = kind.options_model, train.rule_options or {}
    if model is None:
        if table:
            raise RequestError(
                f"train.rule_options: the rule '{train.rule}' has none: leave the table out"
            )
        return
    try:
        model.model_validate(table)
    except ValidationError as error:
        legal, where = list(model.model_fields), ("train", "rule_options")
        raise RequestError(
            "\n".join(explain(i, (*where, *i["loc"]), legal) for i in error.errors())
        ) from error


def _check_draw(name: str, rule: Rule) -> None:
    """RequestError unless another package's rule draws what a rule may draw."""
    shares = rule.draw(Random(0), 0.0)
    drawn = [submodel for submodel, _ in shares]
    known = set(drawn) <= set(rule.space.submodels) and len(set(drawn)) == len(drawn)
    ordered = rule.space.largest not in drawn[1:]
    if not (known and ordered and isclose(sum(weight for _, weight in shares), 1)):
        found = ", ".join(f"{submodel} x {weight:g}" for submodel, weight in shares)
        raise RequestError(
            f"train.rule: the rule {name!r} drew {found or 'nothing'}: a draw holds different"
            " sub-models of the search space, the largest first, and their weights sum to 1"
        )
