"""Scripts that complete command lines, in the shells themselves."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from sortednet_cli.cli.main import app
from sortednet_cli.engine import formats
from sortednet_cli.spec import presets
from tests.commands import command, refused, shell

SPACE = """
[train]
width = [0.1]  # of another table
[space]
width = [0.5, 0.53125, 1.0]  # the widths
depth = [
    1,
    10,
    2,
]
[data]
depth = [9]
"""

BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_sortednet 2>"$ERRORS"
((${#COMPREPLY[@]})) && printf '%s\\n' "${COMPREPLY[@]}"
"""
"""What bash does when Tab is pressed after the words of the command line."""

ZSH = """
compdef() { }
source "$1"; shift
compset() { }
_files() { print -r -- ":files $*" }
compadd() { while [[ $1 != -- ]]; do shift; done; shift; print -rl -- "$@" }
words=("$@"); CURRENT=$#; PREFIX="${@[-1]}"
_sortednet 2>"$ERRORS"
"""
"""Its completion functions work while a key is pressed alone: those of zsh print instead."""

FISH = 'source "$argv[1]"; complete --do-complete "$argv[2]" 2>"$ERRORS"'


def program(name: str) -> str:
    if (found := shutil.which(name)) is None:
        pytest.skip(f"{name} is not installed: its script's text alone is tested")
    return found


def complete(shell: str, *words: str, path: str = "/usr/bin:/bin") -> list[str]:
    """The words that a shell would offer for the last one, which the cursor follows."""
    file, errors = Path("completion"), Path("errors")
    file.write_text(script(shell), encoding="utf-8")
    line = ["sortednet", *words]
    code, start = {"bash": (BASH, ["bash"]), "zsh": (ZSH, ["zsh"]), "fish": (FISH, [])}[shell]
    arguments = [shlex.join(words and line[:-1]) + " " + words[-1]] if shell == "fish" else line
    flags = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = subprocess.run(
        [program(shell), *flags, "-c", code, *start, str(file), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": path, "ERRORS": str(errors), "HOME": str(Path.cwd())},
    )
    assert done.stderr == "" and errors.read_text() == "", (done, errors.read_text())
    return [line.split("\t")[0] for line in done.stdout.splitlines()]


def script(shell: str) -> str:
    done = command("completion", shell)
    assert (done.code, done.err) == (0, "")
    return done.out


@pytest.fixture
def runs(work: Path) -> Path:
    """Two finished runs, the newer one with widths and depths, one that trains, an artifact."""
    for name, facts in {
        "new": {"state": "finished", "created": 1.0, "finished": 1795557094.25},
        "old": {"state": "finished", "created": 2.0, "finished": 1795557093.5},
        "begun": {"state": "training", "created": 3.0},
    }.items():
        folder = work / "runs" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"format": 2, **facts}, indent=1))
        (folder / "spec.toml").write_text(SPACE if name == "new" else "[space]\nheads = [0.25]\n")
    cut = work / "artifacts" / "cut"
    cut.mkdir(parents=True)
    axes = {"run": "new", "space": {"width": [0.5], "ffn": [0.25, 1]}, "depth": [7]}
    (cut / "sortednet.json").write_text(json.dumps(axes, indent=1))
    return work


AXES = ["0.5", "0.53125", "1"]
FINISHED = ["runs/begun", "runs/new", "runs/old", "artifacts/cut"]

EVERYWHERE: dict[str, tuple[list[str], list[str]]] = {
    "command": (["fr"], ["frontier"]),
    "option": (["eval", "--wi"], ["--width"]),
    "cost option": (["frontier", "--max-m"], ["--max-macs", "--max-memory-mb"]),
    "preset": (["train", "--preset", "digits"], ["digits-resnet"]),
    "presets show": (["presets", "show", "pydoc"], ["pydoc-llama"]),
    "action": (["presets", "l"], ["list"]),
    "mode": (["generate", "--mode", ""], ["greedy", "early-exit", "speculative"]),
    "format": (["extract", "--format", ""], formats()),
    "cost": (["frontier", "--cost", "pa"], ["params"]),
    "runtime": (["frontier", "--runtime", "onnx"], ["onnxruntime"]),
    "run of a bench pack": (["bench-pack", "runs/n"], ["runs/new"]),
    "format of a bench pack": (["bench-pack", "--format", "onnx"], ["onnx", "onnx-int8"]),
    "shell": (["completion", ""], ["bash", "zsh", "fish"]),
    "run": (["eval", ""], FINISHED),
    "run, begun with": (["extract", "runs/n"], ["runs/new"]),
    "run after options": (["eval", "--all", "--split", "test", "artifacts/"], ["artifacts/cut"]),
    "artifact to push": (["push", ""], ["artifacts/cut"]),
    "run of a report": (["report", "runs/n"], ["runs/new"]),
    "second run of a report": (["report", "runs/old", "--cost", "memory", "a"], ["artifacts/cut"]),
    "unfinished run": (["train", "--resume", ""], ["runs/begun"]),
    "no run without --resume": (["train", "r"], []),
    "width of the newest": (["eval", "--width", ""], AXES),
    "width, begun": (["eval", "--width", "0.53"], ["0.53125"]),
    "depth in order": (["eval", "--depth", ""], ["1", "10", "2"]),
    "axis of a named run": (["extract", "runs/old", "--axis", ""], ["heads="]),
    "axis value": (["extract", "runs/old", "--axis", "heads="], ["heads=0.25"]),
    "axis of an artifact": (["eval", "artifacts/cut", "--axis", "ff"], ["ffn="]),
    "no such run": (["eval", "nowhere", "--width", ""], []),
    "number": (["extract", "--max-params", ""], []),
    "key": (["train", "--set", "train.warm"], ["train.warmup="]),
    "axis key": (["train", "--set", "space.w"], ["space.width="]),
    "no command": (["evil", ""], []),
    "a word with an apostrophe": (["eval", "it's"], []),
}
WHOLE = {"axis value": "heads=0.25"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("name", EVERYWHERE)
def test_what_may_stand_at_the_cursor(runs: Path, shell: str, name: str) -> None:
    words, wanted = EVERYWHERE[name]
    if shell == "bash":  # it splits words at `=`, and replaces what follows the last one
        words = [
            part for word in words for part in re.split("(=)", word) if part or "=" not in word
        ]
        wanted = [word.removeprefix("heads=") if "=" in words else word for word in wanted]
    if shell == "fish" and name == "a word with an apostrophe":
        words = ["eval", r"it\'s"]
    found = complete(shell, *words)
    assert [word for word in found if not word.startswith(":files")] == wanted


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_value_after_an_equals_sign(runs: Path, shell: str) -> None:
    split = shell == "bash"
    words = ["--width", "=", "0.5"] if split else ["--width=0.5"]
    wanted = ["0.5", "0.53125"] if split else ["--width=0.5", "--width=0.53125"]
    assert complete(shell, "eval", *words) == wanted
    words = ["--axis", "=", "width", "=", "1"] if split else ["--axis=width=1"]
    assert complete(shell, "eval", *words) == (["1"] if split else ["--axis=width=1"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_option_is_offered(work: Path, shell: str) -> None:
    group: Any = typer.main.get_command(app)
    assert complete(shell, "") == list(group.commands)
    for name in group.commands:
        told = re.findall(
            r"^  (?:(-\w), )?(--[a-z-]+)(?:, (-\w))?", command(name, "--help").out, re.M
        )
        assert len(told) >= 1
        assert set(complete(shell, name, "-")) == {*sum(told, ())} - {""}, name
    assert "--version" in complete(shell, "--")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_one_table_and_one_program_for_all(shell: str) -> None:
    """So what bash shows of them holds where another shell is not installed too."""
    text = script(shell)
    text = re.sub(r"\\(.)", r"\1", text) if shell == "fish" else text.replace("'\"'\"'", "'")
    bash = script("bash").replace("'\"'\"'", "'")
    table = bash[bash.index("\ntrain\t") : bash.index("'\n\n_sortednet_program")]
    assert f"train\t--preset\t{' '.join(presets.names())}\t" in table
    assert table in text
    assert bash[bash.index("# Print what") : bash.index("'\n\n_sortednet() {")] in text


def test_a_folder_s_name_is_never_a_command(work: Path) -> None:
    """bash takes offers as they are; zsh and fish quote them."""
    folder = work / "runs" / "$(touch evil) a"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (offer,) = complete("bash", "eval", "")
    assert shlex.split(offer) == ["runs/$(touch evil) a"]
    assert shell(f"echo {offer}").out == "runs/$(touch evil) a\n"
    assert complete("bash", "eval", '"runs/') == []  # within these quotes it would be one
    assert complete("bash", "eval", "'runs/") == ["runs/$(touch evil) a"]
    assert not (work / "evil").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_where_there_are_no_runs_folders_are_offered(work: Path, shell: str) -> None:
    (work / "mine").mkdir()
    offers = {"bash": [], "zsh": [":files -/"], "fish": ["mine/"]}
    assert complete(shell, "eval", "") == offers[shell]


def test_files_and_folders(runs: Path) -> None:
    Path("mine.toml").touch()
    assert complete("zsh", "train", "--config", "mi") == [":files "]
    assert complete("zsh", "train", "--out=ru") == [":files -/"]
    assert complete("zsh", "eval", "nowhe") == [":files -/"]
    assert complete("zsh", "init", "mi") == [":files "]
    assert complete("zsh", "init", "--out", "mi") == [":files "]
    assert complete("zsh", "report", "--out=mi") == [":files "]
    assert complete("fish", "train", "--config", "mi") == ["mine.toml"]
    assert complete("fish", "train", "--config=mi") == ["--config=mine.toml"]
    assert complete("fish", "train", "--out=run") == ["--out=runs/"]


def test_names_with_blanks_in_bash(runs: Path) -> None:
    """What it inserts is one word: escaped, or as it is within quotes that are open."""
    Path("runs/new").rename("runs/it's new")
    assert complete("bash", "eval", "runs/i") == [r"runs/it\'s\ new"]
    assert complete("bash", "eval", r"runs/it\'s\ n") == [r"runs/it\'s\ new"]
    assert complete("bash", "eval", '"runs/i') == ["runs/it's new"]
    assert complete("bash", "eval", r"runs/it\'s\ new", "--width", "") == AXES
    assert complete("bash", "eval", '"runs/it\'s new"', "--width", "") == AXES


@pytest.mark.parametrize("awk", ["awk", "mawk", "gawk --posix", "original-awk", "busybox awk"])
def test_each_awk(runs: Path, awk: str) -> None:
    if (found := shutil.which(awk.split(maxsplit=1)[0])) is None:
        pytest.skip(f"{awk.split(maxsplit=1)[0]} is not installed")
    place = Path("bin")
    place.mkdir()
    (place / "awk").write_text(f'#!/bin/sh\nexec {found} {" ".join(awk.split()[1:])} "$@"\n')
    (place / "awk").chmod(0o755)
    assert complete("bash", "eval", "--depth", "", path=f"{place}:/usr/bin:/bin") == [
        "1",
        "10",
        "2",
    ]


def test_it_starts_awk_alone(runs: Path) -> None:
    """Once, and no Python, which would take longer than a reader waits for a key."""
    place = Path("bin")
    place.mkdir()
    (place / "awk").write_text(f'#!/bin/sh\necho >> started\nexec {program("awk")} "$@"\n')
    (place / "awk").chmod(0o755)
    assert complete("bash", "eval", "--width", "", path=str(place)) == AXES
    assert Path("started").read_text() == "\n"


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["tcsh"], ["'tcsh' is not one of", "bash", "zsh", "fish"]),
        (["fsh"], ["did you mean fish?"]),
        ([], ["missing argument 'shell'. Choose from: bash, zsh, fish; see: sortednet"]),
    ],
)
def test_an_unknown_shell(work: Path, words: list[str], fragments: list[str]) -> None:
    refused(command("completion", *words), 2, *fragments)


def test_the_page_puts_them_where_shells_look(work: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "shell-completion.md"
    (block,) = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    done = shell(block, HOME=str(work))
    assert (done.code, done.out, done.err) == (0, "", "")
    places = {
        "bash": ".local/share/bash-completion/completions/sortednet",
        "zsh": ".zfunc/_sortednet",
        "fish": ".config/fish/completions/sortednet.fish",
    }
    for name, place in places.items():
        assert (work / place).read_text(encoding="utf-8") == script(name)
