"""The page of a report in a real browser, opened from disk and without a network."""

from __future__ import annotations

import json
import math
import random
import shlex
import shutil
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from sortednet_cli import engine
from sortednet_cli.engine import FrontierRequest, SourceRequest
from sortednet_cli.engine.evaluation.frontier import choose, score_of
from sortednet_cli.engine.sources.table import Row
from tests.browser import chromium, needs_browser, open_page, requests, resize
from tests.commands import TINY, command
from tests.engine.evaluation.test_budgets import (
    CLASSIFICATION,
    FURTHER,
    PERPLEXITY,
    _random_rows,
    budget,
)
from tests.engine.export.test_extract import train_pico
from tests.sealing import reseal

pytestmark = needs_browser

COSTS = ("macs", "params", *FURTHER)
HOSTILE = "</script><img src=x onerror=\"document.body.dataset.broken='yes'\"> '{{ data }}"
"""A folder in a folder: its name would end the page's script, and then run one."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of 32 sub-models, among whose scores are many equals, and its page."""
    folder = tmp_path_factory.mktemp("explored")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        grid = ("--set=space.width=[0.25,0.5,0.75,1]", "--set=space.depth=[1,2,3,4,5,6,7,8]")
        assert command("train", *TINY, *grid, "--out=run", "--quiet").code == 0
        file, numbers = Path("run/frontier.json"), random.Random(0)
        table = json.loads(file.read_text())
        for row in table["submodels"]:
            row["metrics"]["validation"]["accuracy"] = numbers.choice((0.25, 0.5, 0.625, 0.75))
        file.write_text(json.dumps(table))
        reseal(Path("run"))
        assert command("report", "run", "--out=page.html", "--quiet").code == 0
    return folder


@pytest.fixture
def opened(browser: Any, explored: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A browser with the page; in the end, nothing was complained of and nothing asked for."""
    monkeypatch.chdir(explored)
    page = Path("page.html")
    resize(browser, 1280, 1600)
    browser.get("about:blank")
    requests(browser)
    browser.get_log("browser")
    open_page(browser, page)
    yield browser
    assert browser.get_log("browser") == []
    assert requests(browser) == {page.resolve().as_uri()}


def element(driver: Any, name: str) -> Any:
    return driver.find_element("id", name)


def chosen(driver: Any) -> str:
    name, _, _ = element(driver, "chosen").text.partition(":")
    return str(name)


def best_within(limits: dict[str, float]) -> str:
    found = engine.frontier(FrontierRequest(SourceRequest(Path("run")), limits=limits)).chosen
    assert found is not None
    return found.submodel.name


def test_every_step_of_every_slider_chooses_as_the_command_does(opened: Any) -> None:
    for name in ("macs", "params", "size_mb"):
        rows = engine.frontier(FrontierRequest(SourceRequest(Path("run")), cost=name)).rows
        values = sorted({row.costs.get(name, getattr(row, name, math.nan)) for row in rows})
        slider = element(opened, f"limit-{name}")
        assert opened.execute_script("arguments[0].focus(); return arguments[0].max", slider) == (
            str(len(values))
        )
        for limit in reversed(values):
            slider.send_keys("\ue012")  # the left arrow
            assert chosen(opened) == best_within({name: limit}), (name, limit)
        assert slider.get_attribute("aria-valuetext").startswith("at most ")
        element(opened, "reset").click()
        assert element(opened, f"limit-{name}-value").text == "no limit"


def test_two_limits_hold_together(opened: Any) -> None:
    macs, params = element(opened, "limit-macs"), element(opened, "limit-params")
    macs.send_keys("\ue012" * 9)
    params.send_keys("\ue012" * 12)
    rows = engine.frontier(FrontierRequest(SourceRequest(Path("run")))).rows
    limits = {"macs": [row.macs for row in rows], "params": [row.params for row in rows]}
    step = {"macs": 9, "params": 12}
    bounds = {name: float(sorted(set(limits[name]))[-step[name]]) for name in limits}
    assert chosen(opened) == best_within(bounds)


@pytest.mark.parametrize("task", [CLASSIFICATION, PERPLEXITY], ids=["higher", "lower"])
def test_joined_budgets_against_the_command(opened: Any, task: Any) -> None:
    """Every combination of costs, mostly between equals; a score may be no finite number."""
    numbers, questions, answers = random.Random(1), [], []
    for count in range(len(COSTS) + 1):
        for names in combinations(COSTS, count):
            for _ in range(10):
                rows = _random_rows(numbers)
                for number, score in ((3, math.inf), (5, math.nan)):
                    rows[number].metrics["validation"]["perplexity"] = score  # type: ignore[index]
                limits = {name: numbers.randint(2, 6) / 2 for name in names}
                bounds = budget(**limits)
                fits = all(any(bound.allows(row) for row in rows) for bound in bounds.bounds)
                within = [r for r in rows if all(b.allows(r) for b in bounds.bounds)]
                assert fits or not within
                answers.append(rows.index(choose(rows, bounds, task)) if within else None)
                order = [[bound.cost.name, bound.limit] for bound in bounds.bounds]
                questions.append([_columns(rows, task), order])
    script = """
        report.higher_is_better = arguments[1];
        return arguments[0].map(([of, bounds]) =>
            choose(of, bounds.map(([cost, limit]) => ({ cost, limit }))));
    """
    assert opened.execute_script(script, questions, task.higher_is_better) == answers
    assert 20 < answers.count(None) < len(answers) - 100


def _columns(rows: list[Row], task: Any) -> dict[str, Any]:
    scores = [row.metrics["validation"][task.metric] for row in rows]
    return {
        "names": [row.submodel.name for row in rows],
        "scores": [score if math.isfinite(score_of(task, row)) else None
                   for score, row in zip(scores, rows, strict=True)],
        "costs": {
            name: {"values": [row.costs.get(name, getattr(row, name, None)) for row in rows]}
            for name in COSTS
        },
    }  # fmt: skip


def test_limits_that_nothing_fits_are_told(opened: Any) -> None:
    opened.execute_script("""
        for (const [id, step] of [["limit-macs", 0], ["limit-params", 3]]) {
            const slider = document.getElementById(id);
            slider.value = step;
            slider.dispatchEvent(new Event("input"));
        }
        report.runs[0].costs.params.values = report.runs[0].costs.params.values.map((v) => -v);
        chooseWithin();
    """)
    assert "No sub-model is within all these limits" in element(opened, "chosen").text
    assert not element(opened, "details").is_displayed()


def test_the_command_extracts_what_is_chosen(opened: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    element(opened, "limit-macs").send_keys("\ue012" * 20)
    name, words = chosen(opened), shlex.split(element(opened, "command").text)
    element(opened, "copy").click()
    copied = element(opened, "copied")
    WebDriverWait(opened, 120).until(lambda _: copied.text)
    assert copied.text == "Copied."
    assert words[0] == "sortednet"
    done = command(*words[1:], "--out=cut", "--json", "--quiet")
    assert (done.code, json.loads(done.out)["submodel"]["name"]) == (0, name), done
    shutil.rmtree("cut")


def test_a_click_on_a_point_or_a_row_chooses_it(opened: Any) -> None:
    from selenium.webdriver import ActionChains

    rows = engine.frontier(FrontierRequest(SourceRequest(Path("run")))).rows
    points = opened.find_elements("css selector", "#scatter .mark-symbol.layer_2_marks path")
    assert len(points) == len(rows)
    ActionChains(opened).move_to_element(points[0]).click().perform()
    assert chosen(opened) == rows[0].submodel.name
    element(opened, "table-details").find_element("tag name", "summary").click()
    element(opened, "every").click()
    (button,) = [
        b for b in element(opened, "table").find_elements("tag name", "button")
        if b.text == rows[7].submodel.name
    ]  # fmt: skip
    button.click()
    assert chosen(opened) == rows[7].submodel.name
    layers = element(opened, "layers-details")
    layers.find_element("tag name", "summary").click()
    told = command("info", "run", "--plan", *_axes(rows[7])).out.splitlines()
    assert len(layers.find_elements("css selector", "tbody tr")) == len(told)


def _axes(row: Row) -> list[str]:
    return [f"--{axis}={value}" for axis, value in row.submodel.axes.items()]


def test_of_two_quick_choices_the_later_is_drawn(opened: Any) -> None:
    """The first drawing is slow, and meanwhile another sub-model is chosen too."""
    opened.execute_async_script("""
        const finished = arguments[0], real = window.vegaEmbed;
        let calls = 0;
        window.vegaEmbed = async (...given) => {
            if (calls++ === 0) await new Promise((resolve) => setTimeout(resolve, 1000));
            return real(...given);
        };
        for (const name of ["params", "macs", "size_mb"]) {
            document.getElementById("cost").value = name;
            document.getElementById("cost").dispatchEvent(new Event("change"));
        }
        setTimeout(() => select(0, report.runs[0].names.indexOf("w0.5-d3")), 500);
        setTimeout(async () => {
            await drawings?.scatter;
            window.vegaEmbed = real;
            finished();
        }, 4000);
    """)
    script = "return report.costs.find((cost) => cost.name === 'size_mb').label"
    label = opened.execute_script(script)
    assert label in element(opened, "scatter").get_attribute("aria-label")
    titles = opened.find_elements("css selector", "#scatter .role-axis-title text")
    assert label in [title.text for title in titles]
    names = opened.find_elements("css selector", "#scatter .mark-text.role-mark text")
    assert {name.text for name in names if name.text} == {"w0.5-d3"}


def test_a_run_without_a_finite_score_has_no_plot_and_says_so(
    browser: Any, explored: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(explored / "run", "run")
    for finite, said in ((1, "31 of 32 sub-models have no finite score"), (0, "32 of 32")):
        file = Path("run/frontier.json")
        table = json.loads(file.read_text())
        for row in table["submodels"][finite:]:
            row["metrics"]["validation"]["accuracy"] = math.nan
        file.write_text(json.dumps(table))
        reseal(Path("run"))
        assert command("report", "run", f"--out={finite}.html", "--quiet").code == 0
        browser.get_log("browser")
        open_page(browser, Path(f"{finite}.html"), waits=bool(finite))
        assert browser.get_log("browser") == []
        assert element(browser, "unscored").text.startswith(said)
        assert element(browser, "scatter").is_displayed() == bool(finite)
        assert element(browser, "command").is_displayed()


def test_the_command_of_a_custom_model_allows_its_factory(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train_pico("custom", tmp_path)
    allowed = "--allow-factory=tests.pico:FlatNet"
    done = command("report", "run", allowed, "--out=page.html", "--quiet")
    assert done.code == 0, done
    open_page(browser, Path("page.html"))
    words = shlex.split(element(browser, "command").text)
    done = command(*words[1:], "--out=cut", "--quiet")
    assert done.code == 0, done
    assert words[2:5] == ["run", "--allow-factory", "tests.pico:FlatNet"]


def test_arrow_keys_walk_through_the_heat_map(opened: Any) -> None:
    opened.execute_script("select(0, report.runs[0].names.indexOf('w0.5-d3'))")
    stops = element(opened, "heat").find_elements("css selector", "button[tabindex='0']")
    assert [stop.get_attribute("aria-pressed") for stop in stops] == ["true"]
    stops[0].send_keys("\ue013")  # up
    opened.switch_to.active_element.send_keys("\ue014")  # right
    opened.switch_to.active_element.send_keys("\ue007")  # Enter
    assert chosen(opened) == "w0.75-d4"
    assert opened.switch_to.active_element.get_attribute("aria-label").startswith("w0.75-d4: ")


def test_everything_has_a_name_and_fits_a_phone_in_either_scheme(opened: Any) -> None:
    unnamed = """
        return [...document.querySelectorAll("button, select, input, summary, [role=region]")]
            .filter((one) => !(one.ariaLabel || one.textContent.trim() || one.labels?.length))
            .map((one) => one.outerHTML);
    """
    assert opened.execute_script(unnamed) == []
    for name in ("chosen", "copied"):
        assert element(opened, name).get_attribute("role") == "status"
    plots = opened.find_elements("css selector", ".plot[role=graphics-document]")
    assert len(plots) == 3
    assert all("A table" in plot.get_attribute("aria-label") for plot in plots)
    colors = set()
    for dark in (False, True):
        resize(opened, 360, 740, dark=dark)
        assert opened.execute_script("return document.documentElement.scrollWidth") == 360
        color = "return getComputedStyle(document.body).backgroundColor"
        colors.add(opened.execute_script(color))
    assert len(colors) == 2


def test_the_name_of_a_point_at_the_edge_is_within_the_plot(opened: Any) -> None:
    inside = """
        const shown = document.querySelector("#scatter svg").getBoundingClientRect();
        return [...document.querySelectorAll("#scatter .mark-text.role-mark text")]
            .map((name) => name.getBoundingClientRect())
            .map((box) => box.width > 20 && shown.left <= box.left && box.right <= shown.right);
    """
    resize(opened, 360, 740)
    for name in ("w0.25-d1", "w1-d8"):
        opened.execute_async_script("""
            select(0, report.runs[0].names.indexOf(arguments[0]));
            views.scatter.resize().runAsync().then(() => arguments[1]());
        """, name)  # fmt: skip
        assert opened.execute_script(inside) == [True, True], name


@pytest.mark.parametrize("last", [3, 60, 2000])
def test_updates_are_whole_numbers(opened: Any, last: int) -> None:
    opened.execute_async_script("""
        const [last, finished] = arguments, { curves } = report.runs[0];
        [curves.update, curves.loss, curves.lr] = [[1, last], [2, 1], [0.1, 0]];
        drawCurves();
        drawings.loss.then(() => finished());
    """, last)  # fmt: skip
    labels = opened.find_elements(
        "css selector", "#loss [aria-label^=X-axis] .role-axis-label text"
    )
    shown = [int(label.text.replace(",", "")) for label in labels if label.text]
    assert len(shown) > 1 and shown == sorted({*shown}) and shown[-1] <= last


def test_several_runs_with_names_that_would_break_a_page(
    browser: Any, explored: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(explored / "run", tmp_path / HOSTILE)
    shutil.copytree(explored / "run", "plain")
    done = command("report", "plain", HOSTILE, "--out=page.html", "--quiet")
    assert done.code == 0, done
    browser.get_log("browser")
    open_page(browser, Path("page.html"))
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.body.dataset.broken ?? null") is None
    browser.execute_script("""
        const run = document.getElementById("run");
        run.value = 1;
        run.dispatchEvent(new Event("change"));
    """)
    assert [o.text for o in element(browser, "run").find_elements("tag name", "option")] == [
        "plain",
        " ".join(str(Path(HOSTILE)).split()),
    ]
    assert shlex.split(element(browser, "command").get_attribute("textContent"))[2] == str(
        Path(HOSTILE)
    )
    legend = browser.find_elements("css selector", "#scatter .role-legend-label text")
    assert len(legend) == 2
