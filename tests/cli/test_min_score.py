"""`--min-score` and `--junit`: what a pipeline fails by."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from sortednet_cli.engine.evaluation.judgement import Judgement
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.errors import RequestError
from sortednet_cli.space import SubModel
from sortednet_cli.spec.measures import ACCURACY, PERPLEXITY, Measure
from tests.commands import Done, command, listing, refused, refused_all

RUN = Path("runs/digits-resnet")


def scores(*words: str) -> dict[str, float]:
    document: Any = json.loads(command(*words, "--json", "--quiet").out)
    metric = document["metric"]
    return {row["name"]: row["metrics"][metric] for row in document["submodels"]}


def missed(done: Done, *fragments: str) -> Any:
    """Assert that a command printed its document, then one message, and ended with 1."""
    assert done.code == 1, done
    assert done.err.startswith("error: ") and done.err.count("\n") == 1, done
    for fragment in fragments:
        assert fragment in done.err, done
    return json.loads(done.out)


def cases(path: Path) -> dict[str, tuple[dict[str, str], str | None]]:
    """The properties of each test case of a JUnit file, and its failure."""
    root = ElementTree.parse(path).getroot()
    (suite,) = root
    found = {}
    for case in suite:
        assert case.get("classname") == str(RUN)
        facts = {item.attrib["name"]: item.attrib["value"] for item in case.iter("property")}
        failure = case.find("failure")
        told = None if failure is None else failure.attrib["message"]
        found[case.attrib["name"]] = facts, told
    failures = sum(told is not None for _, told in found.values())
    for element in (root, suite):
        assert element.get("tests") == str(len(found))
        assert element.get("failures") == str(failures)
    return found


def test_eval(home: Path) -> None:
    (score,) = scores("eval").values()
    done = command("eval", f"--min-score={score}", "--json", "--quiet")
    assert (done.code, done.err) == (0, "")
    same = missed(
        command("eval", f"--min-score={score + 1e-3}", "--json", "--quiet"),
        f"w1-d8 has test accuracy {score:.6g}, below --min-score {score + 1e-3:.6g}\n",
    )
    assert same == json.loads(done.out)


def test_eval_of_all_names_the_worst(home: Path) -> None:
    every = scores("eval", "--all", "--split=validation")
    low, high = min(every.values()), max(every.values())
    bound = (low + high) / 2
    count = sum(score < bound for score in every.values())
    assert 0 < count < len(every)
    words = ["eval", "--all", "--split=validation", "--json", "--quiet", "--junit=scores.xml"]
    document = missed(
        command(*words, f"--min-score={bound}"),
        f"error: {count} of 4 sub-models miss --min-score: ",
        f" has validation accuracy {low:.6g}, below --min-score {bound:.6g}\n",
    )
    found = cases(Path("scores.xml"))
    assert list(found) == [row["name"] for row in document["submodels"]]
    for row in document["submodels"]:
        facts, told = found[row["name"]]
        score = row["metrics"]["accuracy"]
        assert facts == {
            "params": str(row["params"]),
            "macs": str(row["macs"]),
            **{name: str(value) for name, value in row["metrics"].items()},
        }
        assert (told is not None) == (score < bound)
    assert command(*words, f"--min-score={low}").code == 0
    assert all(told is None for _, told in cases(Path("scores.xml")).values())


def test_frontier_without_a_budget_takes_the_best(home: Path) -> None:
    every = scores("frontier")
    best = max(every.values())
    assert command("frontier", f"--min-score={best}").code == 0
    done = command("frontier", f"--min-score={best + 1e-3}", "--json", "--quiet")
    document = missed(done, f" has validation accuracy {best:.6g}, below --min-score ")
    assert len(document["submodels"]) == 4


def test_frontier_with_a_budget_takes_the_chosen(home: Path) -> None:
    words = ["frontier", "--max-params=1k", "--json", "--quiet", "--junit=scores.xml"]
    chosen = json.loads(command(*words).out)["chosen"]
    score = chosen["metrics"]["accuracy"]
    assert command(*words, f"--min-score={score}").code == 0
    document = missed(
        command(*words, f"--min-score={score + 1e-3}"),
        f"error: {chosen['name']} has validation accuracy {score:.6g}, below --min-score ",
    )
    assert document["chosen"] == chosen
    ((name, (_, told)),) = cases(Path("scores.xml")).items()
    assert name == chosen["name"]
    assert told == f"validation accuracy {score:.6g}, below --min-score {score + 1e-3:.6g}"


def test_a_table_is_printed_too(home: Path) -> None:
    plain = command("frontier", "--quiet")
    done = command("frontier", "--min-score=1", "--quiet")
    assert (done.code, done.out) == (1, plain.out)


def test_a_budget_that_nothing_fits_is_still_a_wrong_request(home: Path) -> None:
    before = listing(home)
    words = ["frontier", "--max-params=10", "--min-score=0", "--junit=scores.xml"]
    refused(command(*words), 2, "no sub-model fits params <= 10")
    assert listing(home) == before


@pytest.mark.parametrize("name", ["eval", "frontier"])
@pytest.mark.parametrize(
    ("score", "fragment"),
    [
        ("90", "--min-score 90: accuracy is a number from 0 to 1, where higher is better"),
        ("-0.1", "--min-score -0.1: accuracy is a number from 0 to 1"),
        ("nan", "--min-score nan: accuracy is a number from 0 to 1"),
        ("inf", "--min-score inf: accuracy is"),
        ("90%", "--min-score: must be a number"),
        ("", "--min-score: must be a number"),
    ],
)
def test_a_score_of_nonsense(home: Path, name: str, score: str, fragment: str) -> None:
    refused_all(home, [[name, f"--min-score={score}", "--junit=scores.xml"]], fragment)


@pytest.mark.parametrize("name", ["eval", "frontier"])
@pytest.mark.parametrize(
    ("file", "fragment"),
    [
        ("no/scores.xml", "--junit no/scores.xml: there is no folder"),
        ("runs", "--junit runs: this is a folder; name a file"),
    ],
)
def test_a_junit_file_that_cannot_be(home: Path, name: str, file: str, fragment: str) -> None:
    refused_all(home, [[name, f"--junit={file}"]], fragment)


@pytest.mark.parametrize(
    ("measure", "values", "bound", "told"),
    [
        (PERPLEXITY, [20.0, 25.5], 20, "1 of 2 sub-models miss --min-score: w1-d2 has test"),
        (PERPLEXITY, [21.0, 25.5], 20, "w1-d2 has test perplexity 25.5, above --min-score 20"),
        (PERPLEXITY, [1.0, 20.0], 20, None),
        (PERPLEXITY, [math.inf], 20, "w1-d1 has test perplexity inf, above --min-score 20"),
        (PERPLEXITY, [math.nan, 30.0], 20, "w1-d1 has test perplexity nan, above --min-score"),
        (ACCURACY, [0.5, 0.9], 0.6, "w1-d1 has test accuracy 0.5, below --min-score 0.6"),
        (ACCURACY, [0.5, 0.9], None, None),
    ],
)
def test_lower_is_better_where_it_is(
    measure: Measure, values: list[float], bound: float | None, told: str | None
) -> None:
    rows = [
        Row(SubModel.of({"width": 1, "depth": i}), 1, 1, {"test": {measure.metric: value}})
        for i, value in enumerate(values, 1)
    ]
    found = Judgement(RUN, rows, "test", measure, bound).missed()
    assert (found is None) == (told is None)
    assert told is None or (found is not None and told in found)


@pytest.mark.parametrize("bound", [0.9, 0, math.inf])
def test_a_perplexity_of_nonsense(bound: float) -> None:
    said = f"--min-score {bound:g}: perplexity is a number from 1, where lower is better"
    with pytest.raises(RequestError, match=said):
        PERPLEXITY.check_bound(bound)
