"""Sub-models held against the score they must reach, and their JUnit file. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree import ElementTree

from sortednet_cli.engine.evaluation.budget import Budget
from sortednet_cli.engine.evaluation.costs import Conditions
from sortednet_cli.engine.evaluation.frontier import Frontier, choose
from sortednet_cli.engine.requests import FrontierRequest
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.errors import plain
from sortednet_cli.logs import logger
from sortednet_cli.spec.measures import Measure
from sortednet_cli.storage.files import write_bytes


@dataclass(frozen=True)
class Judgement:
    """Sub-models, and the score that each must reach.

    Attributes:
        path: the source's folder.
        rows: the sub-models.
        split: the part of the data whose scores count.
        bound: the worst score that is good enough, in the metric's unit; None for any.
        conditions: by quantity, what measured costs must be quoted with.
    """

    path: Path
    rows: Sequence[Row]
    split: str
    measure: Measure
    bound: float | None
    conditions: Mapping[str, Conditions] = field(default_factory=dict)

    def write(self, junit: Path | None) -> str | None:
        """Write the JUnit file, if one was asked for; return `missed()`."""
        if junit is not None:
            self.write_junit(junit)
        return self.missed()

    def missed(self) -> str | None:
        """Say which sub-model misses the bound, or the worst one of several; None if none does."""
        failed = [(self._score(row), row) for row in self.rows if self._misses(row)]
        if not failed:
            return None
        sign = 1 if self.measure.higher_is_better else -1
        # NaN is worse than any number, and compares with none.
        value, worst = min(failed, key=lambda pair: (pair[0] == pair[0], sign * pair[0]))
        told = f"{worst.submodel} has {self.split} {self._verdict(value)}"
        if len(self.rows) == 1:
            return told
        return f"{len(failed)} of {len(self.rows)} sub-models miss --min-score: {told}"

    def write_junit(self, path: Path) -> None:
        """Write a JUnit file with one test case for each sub-model; it is replaced atomically."""
        failures = sum(map(self._misses, self.rows))
        counts = {"tests": str(len(self.rows)), "failures": str(failures), "errors": "0"}
        root = ElementTree.Element("testsuites", counts)
        name = f"{self.split} {self.measure.metric}"
        suite = ElementTree.SubElement(root, "testsuite", {"name": name, **counts, "skipped": "0"})
        for row in self.rows:
            names = {"classname": plain(str(self.path)), "name": row.submodel.name}
            case = ElementTree.SubElement(suite, "testcase", names)
            facts: dict[str, object] = {"params": row.params, "macs": row.macs}
            facts |= {**row.metrics[self.split], **row.costs}
            for quantity, values in self.conditions.items():
                facts |= {f"{quantity}.{key}": value for key, value in values.items()}
            properties = ElementTree.SubElement(case, "properties")
            for key, value in facts.items():
                ElementTree.SubElement(properties, "property", name=key, value=str(value))
            if self._misses(row):
                message = f"{self.split} {self._verdict(self._score(row))}"
                ElementTree.SubElement(case, "failure", message=message, type="score")
        ElementTree.indent(root)
        write_bytes(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
        logger.info("wrote %s", path)

    def _score(self, row: Row) -> float:
        return row.metrics[self.split][self.measure.metric]

    def _misses(self, row: Row) -> bool:
        return self.bound is not None and not self.measure.reaches(self._score(row), self.bound)

    def _verdict(self, value: float) -> str:
        side = "below" if self.measure.higher_is_better else "above"
        return f"{self.measure.metric} {value:.6g}, {side} --min-score {self.bound:.6g}"


def judge_frontier(result: Frontier, measure: Measure, request: FrontierRequest) -> Frontier:
    """Hold the chosen row, or without a budget the best one, against a request's score."""
    best = result.chosen or choose(result.rows, Budget(()), measure)
    judged = Judgement(
        result.path, [best], result.split, measure, request.min_score, result.conditions
    )
    return replace(result, missed=judged.write(request.junit))
