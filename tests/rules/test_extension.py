"""A rule of another package: one file, and one line in its entry points."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from sortednet_cli.errors import RequestError
from sortednet_cli.rules import Rule, make_rule
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import TrainSpec
from sortednet_cli.spec.vocabulary import RULES
from tests.cli.test_bad_input import edit
from tests.commands import TINY, command, refused
from tests.extension import installed

SOURCE = '''
"""The rule `growing`: some sub-models of the part that is open."""

from sortednet_cli.rules import Rule, SpecModel, equal_shares


class Options(SpecModel):
    count: int = 1


class Growing(Rule):
    """`count` sub-models, of the first half of the space before all of it is open."""

    options_model = Options

    def draw(self, random, progress=1.0):
        known = self.space.submodels[: None if progress >= 0.5 else len(self.space) // 2]
        drawn = random.sample(range(len(known)), min(self.options.count, len(known)))
        return equal_shares([known[i] for i in sorted(drawn, reverse=True)])


class Broken(Rule):
    def draw(self, random, progress=1.0):
        return [(self.space.smallest, 0.5), (self.space.largest, 0.5)]


class NoRule:
    pass


class Unmade(Broken):
    def __init__(self, train, space):
        raise OSError("no dice")


class Deaf(Broken):
    def draw(self):
        return []


class Empty(Broken):
    def draw(self, random, progress=1.0):
        pass
'''
POINTS = {
    "sortednet.rules": {
        "growing": "toy_rule:Growing",
        "broken": "toy_rule:Broken",
        "no-rule": "toy_rule:NoRule",
        **{name.lower(): f"toy_rule:{name}" for name in ("Unmade", "Deaf", "Empty")},
        "gone": "toy_rule_that_is_gone:Gone",
    }
}
SPACE = SearchSpace.of({"width": [0.5, 1.0], "depth": [1, 2, 4, 8]})


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[None]:
    with installed(tmp_path, {"toy_rule.py": SOURCE}, POINTS) as files:
        assert files == ["toy_rule.py"]
        yield


def _spec(**fields: object) -> TrainSpec:
    return TrainSpec.model_validate({"updates": 1, **fields})


@pytest.mark.parametrize("name", RULES.own)
def test_every_rule_of_the_package_is_where_the_registry_says(name: str) -> None:
    kind = RULES.load(name, Rule)
    assert kind.__module__.startswith("sortednet_cli.rules.")


@pytest.mark.usefixtures("toy")
def test_it_trains_plans_and_goes_on(work: Path) -> None:
    chosen = ("--set=train.rule=growing", "--set=train.rule_options.count=2")
    done = command("train", *TINY, *chosen, "--set=train.log_every=1", "--quiet")
    assert (done.code, done.err) == (0, "")
    run = work / done.out.strip()
    drawn = [
        json.loads(line)["submodels"] for line in (run / "metrics.jsonl").read_text().splitlines()
    ]
    assert [len(names) for names in drawn] == [2, 2, 2]
    assert set(drawn[0]) == {"w0.5-d1", "w0.5-d8"}  # progress is 0: the first half is open
    planned = command("info", "--plan", *TINY, *chosen, "--json")
    assert (planned.code, planned.err) == (0, "")
    plan = json.loads(planned.out)
    alone = json.loads(command("info", "--plan", *TINY, "--set=train.rule=single", "--json").out)
    assert plan["rule"] == "growing"
    # Two depths of the largest width are held at once; half of the time, none of that width.
    memory, least = (p["memory_bytes"]["replicated"]["micro_batch"] for p in (plan, alone))
    assert memory > least
    assert command("info", run, "--json").code == 0


@pytest.mark.usefixtures("toy")
def test_what_it_does_not_say_is_found_from_its_draws() -> None:
    rule = make_rule(_spec(rule="growing", rule_options={"count": 3}), SPACE)
    assert rule.draw(Random(1)) == rule.draw(Random(1))
    assert [s.name for s, _ in rule.heaviest()] == ["w1-d8", "w1-d4", "w1-d2"]
    (phase,) = rule.phases()
    drawn = [len({s.name for s in draw if s.axes["width"] == 1.0}) for draw in phase.draws()]
    assert not any(drawn[:128]) and any(drawn[128:])
    assert rule.opened(0.0) == SPACE.largest
    late = make_rule(_spec(rule="growing", largest_first=0.5), SPACE).phases()
    assert [phase.length for phase in late] == [0.5, 0.5]
    assert {s.axes["width"] for draw in late[1].draws() for s in draw} == {0.5, 1.0}


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.rule=growin"], "train.rule: unknown rule 'growin' (did you mean growing?); the"),
        (["train.rule=growin"], "single, broken, deaf, empty, gone, growing, no-rule, unmade"),
        (["train.rule=[1]"], "train.rule: unknown rule [1]"),
        (
            ["train.rule=gone"],
            "sortednet.rules: 'gone' (toy_rule_that_is_gone:Gone) cannot be load",
        ),
        (["train.rule=no-rule"], "'no-rule' (toy_rule:NoRule) is no subclass of sortednet_cli."),
        (["train.rule=unmade"], "'unmade' (toy_rule:Unmade) failed: no dice"),
        (["train.rule=deaf"], "'deaf' (toy_rule:Deaf) failed: Deaf.draw() takes 1 positional"),
        (["train.rule=empty"], "'empty' drew nothing: a draw must hold"),
        (["train.rule=broken"], "'broken' drew w0.5-d1 x 0.5, w1-d8 x 0.5: a draw must hold"),
        (["train.rule_options.count=2"], "train.rule_options: the rule 'sorted' has no options"),
        (
            ["train.rule=growing", "train.rule_options.count=x"],
            "train.rule_options.count: must be a whole number",
        ),
        (
            ["train.rule=growing", "train.rule_options.coun=2"],
            "train.rule_options.coun: unknown key (did you mean count?); the keys are count",
        ),
        (["train.rule=growing", "train.draws=2"], "train.draws is only for the rule 'sorted'"),
    ],
)
def test_wrong_requests(work: Path, settings: list[str], said: str) -> None:
    arguments = [*TINY, *(f"--set={setting}" for setting in settings)]
    for words in (["train", *arguments], ["info", "--plan", *arguments]):
        refused(command(*words), 2, said)
    assert not list(work.iterdir())


def test_two_packages_cannot_add_one_name(tmp_path: Path) -> None:
    other = {"sortednet.rules": {"growing": "other_rule:Growing"}}
    with (
        installed(tmp_path, {"toy_rule.py": SOURCE}, POINTS),
        installed(tmp_path, {"other_rule.py": SOURCE}, other, name="other"),
    ):
        with pytest.raises(RequestError, match="two packages add 'growing'"):
            make_rule(_spec(rule="growing"), SPACE)
        assert make_rule(_spec(rule="sorted"), SPACE)


def test_a_name_of_this_package_is_not_replaced(tmp_path: Path) -> None:
    points = {"sortednet.rules": {"sorted": "toy_rule:Broken"}}
    with installed(tmp_path, {"toy_rule.py": SOURCE}, points):
        done = command("info", "--plan", *TINY, "--quiet")
        assert done.code == 0
        assert done.err == (
            "sortednet.rules: 'sorted' (toy_rule:Broken) is not used:"
            " sortednet-cli has its own of that name\n"
        )


def test_a_run_is_read_without_the_rule_that_trained_it(work: Path, tmp_path: Path) -> None:
    with installed(tmp_path, {"toy_rule.py": SOURCE}, POINTS):
        done = command("train", *TINY, "--set=train.rule=growing", "--quiet", "--out=run")
        assert done.code == 0, done
    assert json.loads(command("info", "run", "--json").out)["rule"] == "growing"
    for words in (["info", "--check"], ["eval"], ["frontier"], ["extract", "--out=cut"]):
        done = command(words[0], "run", *words[1:], "--quiet")
        assert (done.code, done.err) == (0, ""), done
    assert command("eval", "cut", "--quiet").code == 0
    edit(Path("run/run.json"), "state", value="training")
    refused(
        command("train", "--resume", "run"),
        2,
        "train.rule: unknown rule 'growing'; the rules are sorted, sandwich, sum, sandwich-sum,"
        " single; install the package that adds it",
    )
    refused(command("train", "--config=run/spec.toml"), 2, "train.rule: unknown rule 'growing'")
