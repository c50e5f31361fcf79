"""What build pipelines take from the repository: a page of scripts, an action, a Dockerfile."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from tests.commands import Done, command, shell
from tests.project.console import saved_files, sessions

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "budgets-in-ci.md").read_text(encoding="utf-8")
RECIPE = "docs/cookbook/ci.md"
ACTION: Any = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
LOWER = 'sortednet() { command sortednet "${@/0.98/0.05}"; }\n'
"""The tests' run is trained for a moment, and scores less than the page's."""
INSTRUCTIONS = {
    "ARG",
    "FROM",
    "SHELL",
    "RUN",
    "ENV",
    "COPY",
    "WORKDIR",
    "USER",
    "ENTRYPOINT",
    "CMD",
}


def test_the_page_of_scripts_runs_as_written(home: Path) -> None:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    done = shell("".join([LOWER, *blocks]))
    assert done.code == 0, done
    assert (home / "build" / "scores.json").is_file()


def test_the_build_fails_if_the_budget_loses_a_point(home: Path) -> None:
    first, gate = (session.commands[0].text for session in sessions(RECIPE))
    (home / "gate.sh").write_text(saved_files(RECIPE)["gate.sh"])
    assert shell(first).code == 0
    done = shell(gate)
    assert done.code == 0 and done.out.endswith("build/model\n"), done
    assert 'failures="0"' in (home / "scores.xml").read_text()
    baseline = json.loads((home / "baseline.json").read_text())
    baseline["chosen"]["metrics"]["accuracy"] += 0.02
    (home / "baseline.json").write_text(json.dumps(baseline))
    done = shell(gate)
    assert done.code == 1 and "below --min-score" in done.err and "lost a point" in done.err
    assert 'failures="1"' in (home / "scores.xml").read_text()
    assert not (home / "build" / "model").exists()
    assert shell(gate.replace("digits-resnet", "none")).code == 2
    assert not (home / "scores.xml").exists()  # else a reader would take the last build's


def action(home: Path, **inputs: str) -> tuple[Done, Any]:
    """Run the action's own step for given inputs; return its JSON document too."""
    step = ACTION["runs"]["steps"][-1]
    assert step["id"] == "score" and step["shell"] == "bash"
    given = {name: str(one.get("default", "")) for name, one in ACTION["inputs"].items()}
    given |= {name.replace("_", "-"): value for name, value in inputs.items()}
    variables = {}
    for name, value in step["env"].items():
        found = re.fullmatch(r"\$\{\{ inputs\.([a-z-]+) \}\}", value)
        assert found is not None
        variables[name] = given[found[1]]
    output = home / "output"
    output.write_text("")
    done = shell(step["run"], RUNNER_TEMP=str(home), GITHUB_OUTPUT=str(output), **variables)
    name, _, path = output.read_text().strip().partition("=")
    assert ACTION["outputs"][name]["value"] == "${{ steps.score.outputs.json }}"
    return done, json.loads(Path(path).read_text() or "null")


def test_the_action_scores_a_run(home: Path) -> None:
    run = "runs/digits-resnet"
    inputs = {"run": run, "options": "--max-params 1M\n--cost params\n", "junit": "a b.xml"}
    done, document = action(home, **inputs, min_score="0.01")
    assert (done.code, done.out) == (0, ""), done
    assert document["chosen"]["params"] <= 1e6
    assert (home / "a b.xml").is_file()
    done, again = action(home, **inputs, min_score="1")
    assert (done.code, again) == (1, document)
    assert "below --min-score 1" in done.err
    done, every = action(home, run=run, command="eval", options="--all")
    assert done.code == 0 and len(every["submodels"]) == 4
    evil, nothing = action(home, run="$(touch evil)", options="$(touch evil)")
    assert evil.code == 2 and nothing is None and not (home / "evil").exists()


def test_the_action_is_whole() -> None:
    steps = ACTION["runs"]["steps"]
    assert ACTION["runs"]["using"] == "composite"
    assert {step["shell"] for step in steps} == {"bash"}
    assert not [step for step in steps if "${{" in step["run"]]
    used = re.findall(r"inputs\.([a-z-]+)", json.dumps(steps))
    assert sorted(used) == sorted(ACTION["inputs"])
    page = (ROOT / RECIPE).read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    named = [step for step in yaml.safe_load(shown) if "REPOSITORY" in step.get("uses", "")]
    assert len(named) == 1 and set(named[0]["with"]) <= set(ACTION["inputs"])
    options = set(re.findall(r"--[a-z-]+", json.dumps([steps[-1], named])))
    assert options <= set(re.findall(r"--[a-z-]+", command("frontier", "--help").out))


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, each with its arguments on one line."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    words = (line.split(maxsplit=1) for line in whole.splitlines() if line.strip())
    return [(name, rest) for name, rest in words]


def test_the_dockerfile_is_of_legal_instructions() -> None:
    found = instructions()
    assert {name for name, _ in found} <= INSTRUCTIONS
    assert [name for name, _ in found[:2]] == ["ARG", "FROM"]
    # What is declared before FROM is known to FROM alone.
    before = {rest.partition("=")[0] for name, rest in found[:1] if name == "ARG"}
    after = {rest.partition("=")[0] for name, rest in found[2:] if name == "ARG"}
    assert set(re.findall(r"\$\{(\w+)\}", found[1][1])) == before == {"BASE"}
    bodies = " ".join(rest for name, rest in found if name == "RUN")
    assert after <= set(re.findall(r"\$\{(\w+)\}", bodies)) == {"TORCH", "EXTRAS"}
    for name, rest in found:
        if name in ("SHELL", "ENTRYPOINT", "CMD"):
            assert all(isinstance(word, str) for word in json.loads(rest))
        if name == "RUN":
            subprocess.run(["bash", "-n", "-c", rest], check=True)
    told = set(re.findall(r"--build-arg (\w+)=", PAGE)) | set(re.findall(r"`(BASE)`", PAGE))
    assert told == before | after


def test_the_container_gets_all_that_an_installation_needs(tmp_path: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    for name, rest in instructions():
        if name == "COPY":
            *sources, target = shlex.split(rest)
            for source in sources:
                assert f"!{source}" in ignored
                copied = tmp_path / target.removeprefix("/src").strip("/")
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, copied, dirs_exist_ok=True)
                else:
                    shutil.copy(ROOT / source, copied / source)
    assert not [path for path in tmp_path.rglob("*") if fnmatch(path.name, "test_*")]
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    assert len(list((tmp_path / "dist").glob("*.whl"))) == 1
