"""The same spec gives the same bytes: in fresh processes, on two threads, from the stored spec."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.commands import TINY, command, shell
from tests.torture.cases import CASES, UPDATES, write_text
from tests.torture.ends import differences

FILES = ("weights.safetensors", "statistics.safetensors", "frontier.json", "metrics.jsonl")


def test_fresh_processes_on_two_threads(work: Path) -> None:
    """Also where Python's sets have another order."""
    words = " ".join(f"'{word}'" for word in CASES[0].arguments)
    for name, seed in (("one", "1"), ("two", "2")):
        done = shell(
            f"sortednet train {words} --quiet --out {name}",
            OMP_NUM_THREADS="2",
            PYTHONHASHSEED=seed,
        )
        assert done.code == 0, done
    assert differences(Path("two"), Path("one"), UPDATES) == []


@pytest.mark.parametrize("number", [1, 3, 4])
def test_the_stored_spec_repeats_the_run(work: Path, number: int) -> None:
    words = CASES[number].words(write_text(Path("topics.txt")))
    torch.manual_seed(1)
    assert command(*words, "--quiet").code == 0
    torch.manual_seed(2)
    torch.rand(3)
    again = command("train", "--config=run/spec.toml", "--out=again", "--quiet")
    assert (again.code, again.out) == (0, "again\n"), again
    assert differences(Path("again"), Path("run"), UPDATES) == []


def test_the_switch_changes_no_bit_on_a_cpu(work: Path, trained: Path) -> None:
    done = command("train", *TINY, "--set=train.deterministic=true", "--out=run", "--quiet")
    assert (done.code, done.err) == (0, "")
    for name in FILES:
        assert Path("run", name).read_bytes() == (trained / name).read_bytes(), name
    assert not torch.are_deterministic_algorithms_enabled()
    assert "deterministic = true" in Path("run", "spec.toml").read_text()


def test_the_switch_says_what_has_no_deterministic_kernel(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        assert torch.are_deterministic_algorithms_enabled()
        raise RuntimeError("x does not have a deterministic implementation, but you set it. More.")

    monkeypatch.setattr("sortednet_cli.engine.training.loop.Trainer._step", refuse)
    done = command("train", *TINY, "--set=train.deterministic=true", "--out=run", "--quiet")
    assert done.code == 2
    assert "train.deterministic: torch cannot do that here: x does not have" in done.err
    assert not torch.are_deterministic_algorithms_enabled()
