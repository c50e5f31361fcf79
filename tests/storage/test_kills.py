"""A seeded handful of the kills that `make torture` does in hundreds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.commands import TINY, command, environment
from tests.torture import jobs, kills

ROOT = Path(__file__).parents[2]


def test_killed_trainings_end_as_those_that_were_not(tmp_path: Path) -> None:
    out = tmp_path / "kills.json"
    few = ["--seed=7", "--stride=80", "--kills=1", "--fresh=0", "--launchers=0", f"--out={out}"]
    done = subprocess.run(
        ["python", "-m", "tests.torture.kills", *few],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
        env=environment(),
    )
    assert done.returncode == 0, done
    result = json.loads(out.read_text())
    assert result["wrong"] == []
    kinds = {kind for case in result["cases"] for kind in case["kills"]}
    assert {"between file operations", "within a log line"} < kinds
    assert result["kills"] >= 15


def test_a_job_whose_launcher_is_killed_saves_and_ends(tmp_path: Path) -> None:
    words = ["train", *TINY, "--set=train.updates=100000", "--set=train.log_every=1"]
    job = jobs.launch(tmp_path, [*words, "--out", "run"])
    jobs.wait_for_updates(tmp_path, job, 3)
    assert jobs.kill_launcher(job) == 1
    talk = (tmp_path / "talk.txt").read_text()
    assert "the launcher of this job has died: stopped after update" in talk
    assert talk.count("error:") == 1 and "Traceback" not in talk, talk
    run = tmp_path / "run"
    saved = int((run / "checkpoints" / "latest").read_text().removeprefix("step-"))
    spec = run / "spec.toml"
    spec.write_text(spec.read_text().replace("100000", str(saved + 1)))
    assert command("train", "--resume", run, "--quiet").code == 0
    numbers = [
        json.loads(line)["update"] for line in (run / "metrics.jsonl").read_text().splitlines()
    ]
    assert numbers == list(range(1, saved + 2))


def test_the_committed_figures_are_of_a_hundred_kills() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "torture_kills.json").read_text())
    kinds: dict[str, int] = {}
    for case in result["cases"]:
        for kind, count in case["kills"].items():
            kinds[kind] = kinds.get(kind, 0) + count
    assert sum(kinds.values()) == result["kills"] >= 100
    assert kinds["real command, any time"] >= 10
    assert result["wrong"] == []
    pages = [page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md")]
    assert any(kills.table(result) in page for page in pages)
