"""Rules: which sub-models a micro-batch trains, and with which weights."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from sortednet_cli.errors import RequestError
from sortednet_cli.rules import Rule, make_rule
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import TrainSpec

SPACE = SearchSpace.of({"width": [0.25, 0.5, 1.0], "depth": [2, 3, 4]})


def _spec(**fields: object) -> TrainSpec:
    return TrainSpec.model_validate({"updates": 1, "precision": "fp32", **fields})


def test_sorted_is_uniform_over_the_space() -> None:
    rule = make_rule(_spec(rule="sorted"), SPACE)
    counts = Counter(rule.draw(Random(i))[0][0] for i in range(4500))
    assert set(counts) == set(SPACE.submodels)
    # 500 expected each; five standard deviations of a binomial count are 106.
    assert all(abs(count - 500) < 106 for count in counts.values())


def test_sorted_draws_distinct_ones_from_the_largest_down() -> None:
    rule = make_rule(_spec(rule="sorted", draws=3), SPACE)
    counts: Counter[SubModel] = Counter()
    for i in range(1500):
        drawn = [submodel for submodel, _ in rule.draw(Random(i))]
        places = [SPACE.submodels.index(submodel) for submodel in drawn]
        assert len(set(places)) == 3
        assert places == sorted(places, reverse=True)
        assert [weight for _, weight in rule.draw(Random(i))] == [1 / 3] * 3
        counts.update(drawn)
    # 500 expected each, as above.
    assert all(abs(counts[submodel] - 500) < 106 for submodel in SPACE.submodels)


def test_more_draws_than_submodels() -> None:
    with pytest.raises(RequestError, match=r"train\.draws = 10: the search space has only 9"):
        make_rule(_spec(rule="sorted", draws=10), SPACE)
    with pytest.raises(ValueError, match=r"train\.draws"):
        _spec(rule="sandwich", draws=2)


@pytest.mark.parametrize("draws", [1, 3])
def test_the_first_micro_batch_always_draws_the_largest(draws: int) -> None:
    fields = {"rule": "sorted", "draws": draws, "accumulate": 2}
    rule = make_rule(_spec(**fields, always_largest=True), SPACE)
    without = make_rule(_spec(**fields), SPACE)
    assert without.first is without
    counts: Counter[SubModel] = Counter()
    for i in range(2000):
        assert rule.draw(Random(i)) == without.draw(Random(i))
        shares = rule.first.draw(Random(i))
        assert shares[0] == (SPACE.largest, 1 / draws)
        places = [SPACE.submodels.index(submodel) for submodel, _ in shares]
        assert len(set(places)) == draws
        assert places == sorted(places, reverse=True)
        counts.update(submodel for submodel, _ in shares[1:])
    # 500 expected each of eight; five standard deviations are 97.
    assert len(counts) == (0 if draws == 1 else 8)
    assert all(abs(count - 500) < 97 for count in counts.values())


@pytest.mark.parametrize("draws", [1, 2])
def test_draws_of_a_phase_hold_first_micro_batches_by_their_share(draws: int) -> None:
    rule = make_rule(_spec(rule="sorted", draws=draws, accumulate=4, always_largest=True), SPACE)
    (phase,) = rule.phases()
    found = phase.draws()
    share = sum(SPACE.largest in draw for draw in found) / len(found)
    assert share == pytest.approx(1 / 4 + 3 / 4 * draws / 9, abs=0.05 * (draws - 1))


def test_the_largest_that_is_open_is_always_drawn() -> None:
    spec = _spec(rule="sorted", draws=2, always_largest=True, smallest_first=0.5)
    rule = make_rule(spec, SPACE)
    for progress in (0.0, 0.2, 0.4, 0.5, 1.0):
        shares = rule.first.draw(Random(0), progress)
        assert shares[0][0] == rule.opened(progress)
    last = make_rule(_spec(rule="sorted", draws=2, always_largest=True), SPACE)
    assert rule.first.draw(Random(1), 0.7) == last.first.draw(Random(1))


def test_the_largest_alone_is_no_training_of_all() -> None:
    with pytest.raises(ValueError, match=r"raise train\.draws or train\.accumulate"):
        _spec(rule="sorted", always_largest=True)
    for rule in ("sandwich", "sum", "sandwich-sum", "single"):
        with pytest.raises(ValueError, match=r"train\.always_largest is only for"):
            _spec(rule=rule, always_largest=True, accumulate=2)


def test_sandwich_holds_both_ends_and_distinct_others() -> None:
    rule = make_rule(_spec(rule="sandwich", num_random=3), SPACE)
    for i in range(50):
        drawn = [submodel for submodel, _ in rule.draw(Random(i))]
        assert drawn[0] == SPACE.largest
        assert drawn[-1] == SPACE.smallest
        assert len(set(drawn)) == 5


def test_sandwich_of_a_space_with_one_point() -> None:
    lone = SearchSpace.of({"width": [1.0]})
    rule = make_rule(_spec(rule="sandwich", num_random=3), lone)
    assert rule.draw(Random(0)) == [(lone.largest, 1.0)]


def test_sum_is_all_depths_of_one_width() -> None:
    rule = make_rule(_spec(rule="sum", depth_weights=[1, 1, 2]), SPACE)
    widths = set()
    for i in range(50):
        shares = rule.draw(Random(i))
        assert [s.axes["depth"] for s, _ in shares] == [4, 3, 2]
        assert [weight for _, weight in shares] == [0.5, 0.25, 0.25]
        widths |= {s.axes["width"] for s, _ in shares}
        assert len({s.axes["width"] for s, _ in shares}) == 1
    assert widths == {0.25, 0.5, 1}


def test_shares_of_depths_change_linearly_to_the_last_weights() -> None:
    spec = _spec(rule="sum", depth_weights=[1, 1, 2], last_depth_weights=[1, 2, 17])
    rule = make_rule(spec, SPACE)
    for progress, expected in {0: (0.5, 0.25, 0.25), 0.5: (0.675, 0.175, 0.15)}.items():
        shares = [weight for _, weight in rule.draw(Random(0), progress)]
        assert shares == pytest.approx(expected)
    assert [weight for _, weight in rule.draw(Random(0))] == pytest.approx([0.85, 0.1, 0.05])
    from_equal = make_rule(_spec(rule="sum", last_depth_weights=[1, 2, 17]), SPACE)
    shares = [weight for _, weight in from_equal.draw(Random(0), 0.0)]
    assert shares == pytest.approx([1 / 3] * 3)


def test_sandwich_sum_is_all_depths_of_a_sandwich_of_widths() -> None:
    space = SearchSpace.of({"width": [0.25, 0.5, 0.75, 1.0], "depth": [2, 3, 4]})
    rule = make_rule(_spec(rule="sandwich-sum", num_random=1, depth_weights=[1, 1, 2]), space)
    between = set()
    for i in range(50):
        shares = rule.draw(Random(i))
        assert [s.axes["depth"] for s, _ in shares] == [4, 3, 2] * 3
        assert [weight for _, weight in shares] == pytest.approx([1 / 6, 1 / 12, 1 / 12] * 3)
        widths = list(dict.fromkeys(s.axes["width"] for s, _ in shares))
        assert (widths[0], widths[2]) == (1, 0.25)
        between.add(widths[1])
    assert between == {0.5, 0.75}


def test_random_exits_weigh_what_all_exits_would() -> None:
    space = SearchSpace.of({"depth": [1, 2, 3, 4, 6]})
    rule = make_rule(_spec(rule="sum", random_exits=1), space)
    total: Counter[SubModel] = Counter()
    for i in range(4000):
        (deepest, first), (other, second) = rule.draw(Random(i))
        assert (deepest, first) == (space.largest, pytest.approx(0.2))
        assert second == pytest.approx(0.8)
        total[other] += 1
    # 1000 expected each; five standard deviations of a binomial count are 137.
    assert len(total) == 4 and all(abs(count - 1000) < 137 for count in total.values())
    assert {len(draw) for draw in rule.draws()} == {2} and len(rule.heaviest()) == 2
    weighted = make_rule(
        _spec(rule="sum", random_exits=2, depth_weights=[1, 2, 3, 4, 5]), space
    ).draw(Random(0))
    assert sum(weight for _, weight in weighted) == pytest.approx(1)
    assert [s.axes["depth"] for s, _ in weighted] == sorted(
        (s.axes["depth"] for s, _ in weighted), reverse=True
    )
    for many in (4, 9):
        whole = make_rule(_spec(rule="sum", random_exits=many), space)
        assert whole.draw(Random(0)) == make_rule(_spec(rule="sum"), space).draw(Random(0))
    alone = make_rule(_spec(rule="sum", random_exits=0), space)
    assert alone.draw(Random(0)) == [(space.largest, 1.0)]
    with pytest.raises(ValueError, match=r"train\.random_exits is only for"):
        _spec(rule="sorted", random_exits=1)


@pytest.mark.parametrize("rule", ["sum", "sandwich-sum"])
def test_a_space_of_depths_alone_is_drawn_whole(rule: str) -> None:
    space = SearchSpace.of({"depth": [1, 2]})
    shares = make_rule(_spec(rule=rule), space).draw(Random(0))
    assert shares == [(space.largest, 0.5), (space.smallest, 0.5)]


def test_single_is_the_largest_or_the_named_one() -> None:
    assert make_rule(_spec(rule="single"), SPACE).draw(Random(0)) == [(SPACE.largest, 1.0)]
    named = make_rule(_spec(rule="single", submodel="w0.5-d3"), SPACE)
    assert named.draw(Random(0))[0][0].name == "w0.5-d3"


@pytest.mark.parametrize("rule", ["sorted", "sandwich", "sum", "sandwich-sum", "single"])
def test_rules_are_pure_and_their_weights_sum_to_one(rule: str) -> None:
    first, second = make_rule(_spec(rule=rule), SPACE), make_rule(_spec(rule=rule), SPACE)
    for i in range(20):
        assert first.draw(Random(i)) == second.draw(Random(i))
        assert sum(weight for _, weight in first.draw(Random(i))) == pytest.approx(1)


def test_sum_needs_depths_and_as_many_weights() -> None:
    with pytest.raises(RequestError, match="depth axis"):
        make_rule(_spec(rule="sum"), SearchSpace.of({"width": [0.5, 1.0]}))
    for key in ("depth_weights", "last_depth_weights"):
        with pytest.raises(RequestError, match=rf"train\.{key}: 2 weights for 3 depths"):
            make_rule(_spec(rule="sum", **{key: [1, 2]}), SPACE)


def test_the_largest_alone_comes_first() -> None:
    rule = make_rule(_spec(rule="sorted", largest_first=0.25), SPACE)
    after = make_rule(_spec(rule="sorted"), SPACE)
    for i in range(20):
        assert rule.draw(Random(i), progress=0.2499) == [(SPACE.largest, 1.0)]
        assert rule.draw(Random(i), progress=0.25) == after.draw(Random(i))
        assert rule.draw(Random(i)) == after.draw(Random(i))


def test_the_space_opens_from_its_smallest() -> None:
    """Three widths and depths over the first half: a third of it for each."""
    rule = make_rule(_spec(rule="sorted", draws=3, smallest_first=0.5), SPACE)
    after = make_rule(_spec(rule="sorted", draws=3), SPACE)
    for third in range(3):
        seen = set()
        for i in range(60):
            shares = rule.draw(Random(i), progress=(third + i / 60) / 6)
            assert len(shares) == min(3, (third + 1) ** 2)
            assert sum(weight for _, weight in shares) == pytest.approx(1)
            seen |= {submodel for submodel, _ in shares}
        assert seen == set(SPACE.nested_in(SPACE.submodels[4 * third]).submodels)
    for i in range(20):
        assert rule.draw(Random(i), progress=0.5) == after.draw(Random(i))
        assert rule.draw(Random(i)) == after.draw(Random(i))


def test_all_depths_that_are_open_have_the_first_weights() -> None:
    spec = _spec(rule="sum", depth_weights=[1, 3, 2], smallest_first=0.9)
    shares = make_rule(spec, SPACE).draw(Random(0), progress=0.4)
    assert [(s.axes["depth"], weight) for s, weight in shares] == [(3, 0.75), (2, 0.25)]


@pytest.mark.parametrize("rule", ["sorted", "sandwich", "sum", "sandwich-sum"])
def test_every_rule_begins_with_the_smallest(rule: str) -> None:
    beginning = make_rule(_spec(rule=rule, smallest_first=0.5), SPACE)
    assert beginning.draw(Random(0), progress=0.0) == [(SPACE.smallest, 1.0)]


@pytest.mark.parametrize("beginning", ["largest_first", "smallest_first"])
def test_a_beginning_leads_to_another_rule(beginning: str) -> None:
    with pytest.raises(ValueError, match=f"{beginning} is not for the rule 'single'"):
        _spec(rule="single", **{beginning: 0.5})
    with pytest.raises(ValueError, match=beginning):
        _spec(rule="sorted", **{beginning: 1.0})


def test_one_beginning_at_most_and_a_teacher_that_is_trained() -> None:
    with pytest.raises(ValueError, match="one of"):
        _spec(rule="sorted", largest_first=0.5, smallest_first=0.5)
    with pytest.raises(ValueError, match="trains it last"):
        _spec(rule="sandwich", distill=True, smallest_first=0.5)


@pytest.mark.parametrize(
    "fields",
    [
        {"rule": "sorted"},
        {"rule": "sorted", "draws": 3},
        {"rule": "sorted", "draws": 3, "accumulate": 2, "always_largest": True},
        {"rule": "sandwich", "num_random": 1},
        {"rule": "sum"},
        {"rule": "sandwich-sum"},
        {"rule": "single", "submodel": "w0.5-d3"},
        {"rule": "sandwich", "largest_first": 0.5},
        {"rule": "sum", "smallest_first": 0.5},
    ],
)
def test_what_rules_know_of_themselves_is_what_their_draws_show(fields: dict[str, object]) -> None:
    """The defaults of a rule of another package, on rules that know better."""
    rule = make_rule(_spec(**fields), SPACE)
    assert Rule.heaviest(rule) == rule.heaviest()
    drawn = {tuple(draw) for phase in rule.phases() for draw in phase.draws()}
    assert {tuple(draw) for draw in Rule.draws(rule)} <= drawn
    assert sum(phase.length for phase in rule.phases()) == pytest.approx(1)
