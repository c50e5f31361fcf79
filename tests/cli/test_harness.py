"""`eval --harness`: lm-eval over sub-models in place, with its own class as the reference."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from sortednet_cli.engine.evaluation.harness import BATCH_SIZE, BOOTSTRAPS
from sortednet_cli.engine.evaluation.harness_output import apart
from sortednet_cli.space import SubModel
from sortednet_cli.storage.harness import HarnessScore, add_harness, read_harness
from tests.commands import command, refused, refused_all

RUN = "runs/pydoc-llama"
SETTINGS = (
    *("--preset=pydoc-llama", "--set=train.updates=20", "--set=train.batch_size=8"),
    *("--set=model.config.hidden_size=32", "--set=model.config.num_hidden_layers=3"),
    *("--set=model.config.intermediate_size=64", "--set=space.depth=[1,3]"),
    *("--set=data.vocab_size=400", "--set=data.max_length=64"),
)
WORDS = ("the", "a", "class", "object", "value", "name", "return", "list", "of", "is")
TASKS = {
    "pick": """
output_type: multiple_choice
doc_to_text: "{{context}}"
doc_to_choice: "{{choices}}"
doc_to_target: label
metric_list:
  - metric: acc
  - metric: acc_norm
""",
    "roll": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{context}}"
metric_list:
  - metric: word_perplexity
  - metric: bits_per_byte
""",
    "say": """
output_type: generate_until
doc_to_text: "{{context}}"
doc_to_target: "{{choices[label]}}"
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: 6
metric_list:
  - metric: exact_match
  - metric: chrf
""",
}
"""Tasks of one output type each, on the same records."""

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    done = command("train", *SETTINGS, "--quiet", "--out", folder / "run")
    assert (done.code, done.err) == (0, ""), done
    return folder / "run"


@pytest.fixture
def run(work: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a run and tasks; what the package `datasets` keeps goes away too."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", work.parent / "datasets")
    shutil.copytree(made, work / RUN)
    write_tasks(work / "tasks")
    return work


def write_tasks(folder: Path, count: int = 24) -> None:
    folder.mkdir()
    lines = []
    for number in range(count):
        choices = [f" {WORDS[(number + step) % len(WORDS)]}" for step in (0, 3, 7)]
        context = " ".join(WORDS[(number * 3 + i * i) % len(WORDS)] for i in range(4 + number % 5))
        record = {"context": context, "choices": choices, "label": number % 3}
        lines.append(json.dumps(record) + "\n")
    (folder / "records.jsonl").write_text("".join(lines))
    for name, text in TASKS.items():
        files = f"dataset_kwargs:\n  data_files:\n    test: {folder}/records.jsonl\n"
        head = f"task: {name}\ndataset_path: json\n{files}test_split: test"
        (folder / f"{name}.yaml").write_text(head + text)


def _harness(*arguments: str | Path) -> dict[str, Any]:
    """The scores of each sub-model by its name."""
    done = command("eval", RUN, *arguments, "--json")
    assert (done.code, done.err.count("warning")) == (0, 0), done
    return {row["name"]: row["harness"] for row in json.loads(done.out)["submodels"]}


def _reference(artifact: Path, folder: Path) -> dict[str, dict[str, float]]:
    """What lm-eval's own `hf` model scores with an artifact."""
    import lm_eval

    with warnings.catch_warnings(), apart():
        warnings.simplefilter("ignore")
        found = lm_eval.simple_evaluate(
            "hf",
            model_args={"pretrained": str(artifact), "dtype": "float32"},
            tasks=list(TASKS),
            task_manager=lm_eval.tasks.TaskManager(
                include_path=str(folder), include_defaults=False
            ),
            batch_size=BATCH_SIZE,
            device="cpu",
            bootstrap_iters=BOOTSTRAPS,
        )
    return {
        task: {key: v for key, v in own.items() if isinstance(v, float) and "," in key}
        for task, own in found["results"].items()
    }


def test_scores_are_those_of_lm_evals_own_model_of_the_artifact(run: Path) -> None:
    """By likelihood, by rolling likelihood and by generated text; kept, and shown by `frontier`."""
    found = _harness("--all", "--harness=pick,roll,say", "--harness-path=tasks")
    assert found.keys() == {"d1", "d3"}
    for depth in (1, 3):
        done = command("extract", RUN, f"--depth={depth}", f"--out=cut{depth}", "--quiet")
        assert done.code == 0, done
        expected = _reference(Path(f"cut{depth}"), Path("tasks"))
        assert expected.keys() == TASKS.keys()
        for task, metrics in expected.items():
            own = dict(found[f"d{depth}"][task])
            assert own.pop("samples") == 24
            assert own == pytest.approx(metrics, rel=1e-6), (depth, task)
    assert found["d1"]["roll"] != found["d3"]["roll"]
    table = command("frontier", RUN, "--all")
    assert table.code == 0, table
    header = table.out.splitlines()[0]
    assert "pick acc " in header
    assert "roll word_perplexity" in header
    assert "stderr" not in header
    shown = json.loads(command("frontier", RUN, "--json").out)["submodels"]
    assert {row["name"]: row["harness"] for row in shown} == found
    assert command("info", RUN, "--check").code == 0


def test_a_task_is_a_file_too_and_scores_of_tasks_add_up(run: Path) -> None:
    """One sub-model, a few samples; a task that is scored again is replaced, others stay."""
    first = _harness("--harness=tasks/pick.yaml", "--harness-limit=5")
    assert first.keys() == {"d3"}
    assert first["d3"]["pick"]["samples"] == 5
    _harness("--harness=roll", "--harness-path=tasks", "--harness-limit=5")
    again = _harness("--harness=tasks/pick.yaml", "--harness-limit=7")
    kept = read_harness(Path(RUN))
    assert kept.keys() == {"d3"}
    assert set(kept["d3"]) == {"pick", "roll"}
    assert kept["d3"]["pick"].samples == again["d3"]["pick"]["samples"] == 7
    table = command("eval", RUN, "--harness=tasks/pick.yaml", "--harness-limit=5")
    assert table.out.split()[:5] == ["sub-model", "params", "MACs", "pick", "acc"]
    done = command("eval", RUN, "--all", "--json")  # the model's own scores, as before
    assert "harness" not in json.loads(done.out)["submodels"][0]


def test_a_stock_folder_is_scored_and_left_as_it_is(run: Path) -> None:
    assert command("extract", RUN, "--depth=1", "--out=cut", "--quiet").code == 0
    (run / "cut" / "sortednet.json").unlink()
    before = sorted(path.name for path in (run / "cut").iterdir())
    done = command("eval", "cut", "--harness=tasks/pick.yaml", "--harness-limit=3", "--json")
    assert done.code == 0, done
    (row,) = json.loads(done.out)["submodels"]
    assert (row["metrics"], row["harness"]["pick"]["samples"]) == ({}, 3)
    assert sorted(path.name for path in (run / "cut").iterdir()) == before


def test_a_damaged_file_of_scores_is_refused(run: Path) -> None:
    score = HarnessScore(metrics={"acc,none": 0.5}, samples=2, chat=False, version="0")
    file = add_harness(Path(RUN), SubModel.of({"depth": 3}), {"pick": score})
    file.write_text(file.read_text().replace("0.5", "0.9"))
    commands = [["frontier", RUN], ["eval", RUN, "--harness=tasks/pick.yaml"]]
    refused_all(run, commands, "harness.json is damaged")
    refused(command("info", RUN, "--check"), 2, "harness.json is damaged")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--harness=pick", "--harness-path=nowhere"], "--harness-path nowhere: there is no such"),
        (["--harness=nowhere.yaml"], "--harness nowhere.yaml: there is no such file"),
        (["--harness=,"], "--harness: name a task"),
        (["--harness=pick", "--harness-limit=0"], "--harness-limit 0"),
        (["--harness-limit=3"], "--harness-limit needs --harness TASK"),
        (["--harness=pick", "--min-score=3"], "--min-score is for the model's own data"),
        (["--harness=pick", "--split=test"], "--split is for the model's own data"),
        (["--harness=tasks/odd.yaml"], "--harness tasks/odd.yaml: lm-eval cannot read it"),
        (["--harness=tasks/lost.yaml"], "--harness tasks/lost.yaml: lm-eval cannot read it"),
        (["--harness=tasks/pick.yaml", "--depth=2"], "legal values are 1, 3"),
    ],
)
def test_wrong_requests(run: Path, arguments: list[str], reason: str) -> None:
    (run / "tasks" / "odd.yaml").write_text("task: odd\noutput_type: [\n")
    lost = (run / "tasks" / "pick.yaml").read_text().replace("records.jsonl", "none.jsonl")
    (run / "tasks" / "lost.yaml").write_text(lost)
    refused_all(run, [["eval", RUN, *arguments]], reason)


def test_an_unknown_task_is_named_with_the_nearest(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lm_eval.tasks

    class Known(lm_eval.tasks.TaskManager):
        """The user's tasks alone: to read lm-eval's own takes a minute."""

        def __init__(self, include_path: str | None = None, **_: object) -> None:
            super().__init__(include_path=include_path, include_defaults=False)

    monkeypatch.setattr(lm_eval.tasks, "TaskManager", Known)
    done = command("eval", RUN, "--harness=pikc", "--harness-path=tasks")
    refused(done, 2, "--harness pikc: lm-eval has no such task (did you mean pick?)")


def test_a_task_whose_data_is_on_the_hub_says_that_it_needs_the_network(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    text = "task: far\ndataset_path: nobody/nothing\ntest_split: test\n" + TASKS["pick"]
    Path("tasks/far.yaml").write_text(text)
    done = command("eval", RUN, "--harness=tasks/far.yaml")
    refused(done, 1, "its data is not here, and cannot be downloaded", "--harness-path")


def test_other_models_and_jobs_are_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = ["eval", "runs/digits-resnet", "--harness=pick"]
    refused_all(home, [image], "only models for causal-lm or answers generate text")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "1")
    refused(command(*image), 2, "--harness runs in one process")


def test_without_the_package_its_line_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setattr("sortednet_cli.engine.checks.find_spec", lambda name: None)
    done = command("eval", "runs/digits-resnet", "--harness=pick")
    refused(done, 2, "--harness needs: pip install '.[harness]' in your checkout")
