"""Rules, which choose the sub-models that a micro-batch trains. One module per rule. No torch.

Another package adds a rule as a subclass of `Rule`, registered as an entry point of the group
`sortednet.rules`. The table `[train.rule_options]` holds its settings.
"""

from __future__ import annotations

from math import isclose
from random import Random

from pydantic import ValidationError

from sortednet_cli.errors import RequestError
from sortednet_cli.rules.base import Phase, Rule, Share, equal_shares
from sortednet_cli.rules.layer_dropout import layer_dropout_rates, skipped_layers
from sortednet_cli.rules.phases import largest_first, smallest_first
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import TrainSpec
from sortednet_cli.spec.fields import SpecModel
from sortednet_cli.spec.load import explain
from sortednet_cli.spec.vocabulary import RULES
from sortednet_cli.wrong_values import wrong_values

__all__ = [
    "Phase",
    "Rule",
    "Share",
    "SpecModel",
    "equal_shares",
    "layer_dropout_rates",
    "make_rule",
    "skipped_layers",
]


def make_rule(train: TrainSpec, space: SearchSpace) -> Rule:
    """Make the rule of a spec.

    Raises:
        RequestError: the rule does not fit the search space, or its options are wrong.
    """
    kind: type[Rule] = RULES.load(train.rule, Rule)
    with RULES.making(train.rule):
        _check_options(kind, train)
        kind.check(train, space)
        if train.rule not in RULES.own:
            _check_draw(train.rule, kind(train, space))
        if train.distill == "next":
            _check_several(train.rule, kind(train, space))
        if train.largest_first:
            return largest_first(kind, train, space)
        if train.smallest_first:
            return smallest_first(kind, train, space)
        return kind(train, space)


def _check_options(kind: type[Rule], train: TrainSpec) -> None:
    """RequestError if `[train.rule_options]` is wrong, with one line per wrong key."""
    model, table = kind.options_model, train.rule_options or {}
    if model is None:
        if table:
            raise RequestError(
                f"train.rule_options: the rule '{train.rule}' has no options; remove the table"
            )
        return
    try:
        model.model_validate(table)
    except ValidationError as error:
        legal, where = list(model.model_fields), ("train", "rule_options")
        raise RequestError(
            "\n".join(
                explain(wrong, (*where, *wrong.path), legal)
                for wrong in wrong_values(error.errors())
            )
        ) from error


def _check_draw(name: str, rule: Rule) -> None:
    """RequestError if another package's rule draws something that no rule may draw."""
    shares = rule.draw(Random(0), 0.0) or []
    drawn = [submodel for submodel, _ in shares]
    known = set(drawn) <= set(rule.space.submodels) and len(set(drawn)) == len(drawn)
    ordered = rule.space.largest not in drawn[1:]
    if not (known and ordered and isclose(sum(weight for _, weight in shares), 1)):
        drawn_text = ", ".join(f"{submodel} x {weight:g}" for submodel, weight in shares)
        raise RequestError(
            f"train.rule: the rule {name!r} drew {drawn_text or 'nothing'}: a draw must hold"
            " different sub-models of the search space, the largest first, and their weights must"
            " sum to 1"
        )


def _check_several(name: str, rule: Rule) -> None:
    """RequestError if a rule trains no more than one sub-model of a micro-batch."""
    if all(len(rule.draw(Random(number))) == 1 for number in range(16)):
        more = "raise train.draws" if name == "sorted" else "take another rule"
        raise RequestError(
            f'train.distill = "next": the rule {name!r} trains one sub-model of each micro-batch,'
            f" so that none has a larger one to learn from: {more}, or set train.distill to true"
        )
