"""What the benchmarks of accuracy rest on: equal budgets, fair shares, trainings kept."""

from __future__ import annotations

import json
from argparse import Namespace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from sortednet_cli.errors import RequestError
from sortednet_cli.spec import load_preset
from tests.commands import TINY
from tests.sealing import unfinished

FOLDER = Path(__file__).parents[2] / "benchmarks"


def _script(name: str) -> dict[str, Any]:
    return vars(import_module(f"benchmarks.{name}"))


def test_every_rule_gets_the_same_multiply_adds() -> None:
    """Four widths of costs 1, 0.56, 0.25 and 0.065: a sandwich of all takes their sum."""
    updates_for, rules = (
        _script("accuracy.rules")["updates_for"],
        _script("accuracy.rules")["RULES"],
    )
    found = {
        name: updates_for("cifar10-cpreresnet20", rules[name], 128_000)
        for name in ("single", "sorted", "sandwich", "sandwich, distilled")
    }
    costs = [33_744_000, 19_070_000, 8_550_000, 2_200_000]
    assert found["single"] == 1000
    assert found["sandwich"] == pytest.approx(1000 * costs[0] / sum(costs), rel=0.01)
    assert found["sandwich, distilled"] == found["sandwich"]  # the teacher is trained anyway
    assert found["sorted"] == pytest.approx(4000 * costs[0] / sum(costs), rel=0.01)


def test_twins_are_spread_from_the_largest_to_the_smallest() -> None:
    rows = [{"name": str(macs), "macs": macs} for macs in (5, 1, 9, 3, 7)]
    spread = _script("accuracy.lone_twins")["spread"]
    assert [row["macs"] for row in spread(rows, 3)] == [9, 5, 1]
    assert [row["macs"] for row in spread(rows, None)] == [9, 7, 5, 3, 1]


def test_a_share_is_how_often_a_rule_trains_a_sub_model() -> None:
    shares_of = _script("accuracy.lone_twins")["shares_of"]
    plain = "train.smallest_first=0"
    found = shares_of("cifar10-cpreresnet20", ["train.rule=sorted", plain])
    assert set(found.values()) == {0.25}
    found = shares_of("cifar10-cpreresnet20", ["train.rule=sandwich", "train.num_random=1", plain])
    assert found["w1"] == found["w0.25"] == 1
    assert found["w0.5"] + found["w0.75"] == pytest.approx(1)
    found = shares_of("cifar10-cpreresnet20", ["train.largest_first=0.5", plain])
    assert list(found.values()) == pytest.approx([1 / 8, 1 / 8, 1 / 8, 5 / 8])
    # An eighth of the training each: one width, two, three, all four; then half with all four.
    found = shares_of("cifar10-cpreresnet20", ["train.smallest_first=0.5"])
    opening = [(1 + 1 / 2 + 1 / 3 + 1 / 4) / 8, (1 / 2 + 1 / 3 + 1 / 4) / 8]
    assert [found["w0.25"], found["w0.5"]] == pytest.approx([share + 1 / 8 for share in opening])
    assert found["w1"] == pytest.approx(1 / 32 + 1 / 8)


@pytest.mark.parametrize(
    "name", ["engine_cost", "compile_cost", "narrow_models", "peers", "plan_memory"]
)
def test_speed_benchmarks_can_load_their_presets(
    name: str,
) -> None:
    """Whatever a preset trains by, a benchmark that sets a rule of its own gets it."""
    script = _script(f"speed.{name}")
    for case in script["CASES"]:
        for rule in ("sorted", "single"):
            ruled = [*script["PLAIN"], f"train.rule={rule}"] if "PLAIN" in script else []
            assert load_preset(case.preset, [*case.overrides, *ruled])


def test_slicing_inside_the_layers_trains_the_same_network() -> None:
    """A peer that computed something else would be no peer; the check must tell it."""
    script = _script("speed.sliced_layers")
    depth, width = "space.depth=[8]", "space.width=[0.5, 1.0]"
    _, inputs, network = _script("harness")["network_of"]("digits-resnet", [depth, width])
    batch = inputs.random_inputs(2)
    slicing = script["SlicingNetwork"](network)
    script["check_equal"](network, slicing, batch)
    with torch.no_grad():
        slicing.tensors["head.weight"] += 0.1
    with pytest.raises(AssertionError):
        script["check_equal"](network, slicing, batch)


def test_a_library_that_is_missing_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, library = _script("speed.peers"), _script("speed.peer_libraries")["Library"]

    def missing() -> None:
        raise ImportError("No module named 'far'")

    here = library("Net", ("pytest",), "ResNet-50", lambda: "network")
    monkeypatch.setitem(script, "LIBRARIES", (library("Far", ("far",), "LLaMA", missing), here))
    networks, versions, left_out = script["open_libraries"]()
    assert networks["ResNet-50"] == {"pytest: Net": "network"}
    assert versions == {"pytest: Net": {"pytest": pytest.__version__}}
    assert left_out == {"far: Far": "No module named 'far'"}
    assert "far: Far is left out: No module named 'far'" in capsys.readouterr().out


def test_a_gap_is_told_within_what_was_measured() -> None:
    samples_for = _script("accuracy.sample_gap")["samples_for"]
    curve = [(100.0, 0.4), (200.0, 0.6), (400.0, 0.7)]
    assert samples_for(0.4, curve) == pytest.approx(100)
    assert samples_for(0.5, curve) == pytest.approx(100 * 2**0.5)
    assert samples_for(0.7, curve) == pytest.approx(400)
    assert samples_for(0.39, curve) is None
    assert samples_for(0.71, curve) is None


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("nowhere.json", "no result of this benchmark"),
        ("README.md", "no result of this benchmark"),
        ("benchmarks/results/rules_cifar10_resnet.json", "no result of this benchmark"),
        ("benchmarks/results/sample_gap_cifar10_resnet_draws.json", "other samples and settings"),
    ],
)
def test_curves_of_other_trainings_are_refused(file: str, said: str) -> None:
    asked = {"preset": "cifar10-resnet", "samples": 240_000, "seeds": [0], "lr": 0.1, "set": []}
    options = Namespace(alone=FOLDER.parent / file, **asked)
    with pytest.raises(RequestError, match=said):
        _script("accuracy.sample_gap")["earlier"](options)


def test_a_teacher_s_passes_are_part_of_a_rule_s_cost() -> None:
    script = _script("accuracy.rules")
    cost, rules = script["cost_per_sample"], script["RULES"]
    alone = cost("cifar10-resnet", rules["single"])
    plain = cost("cifar10-resnet", rules["sorted, nested init, largest first"])
    taught = cost("cifar10-resnet", rules["sorted, nested init, largest first, distilled"])
    # A forward pass is a third of an update; half of them have a teacher, but 1 in 49 of these.
    assert taught - plain == pytest.approx(alone / 3 / 2 * 48 / 49, rel=0.01)


def test_a_split_keeps_the_ends_of_the_preset_s_space() -> None:
    space_of = _script("accuracy.splits")["space_of"]
    for split in ("20x8", "32x5", "40x4"):
        spec = load_preset("digits-resnet", space_of("digits-resnet", split))
        widths, depths = spec.space["width"], spec.space["depth"]
        assert (len(set(widths)), len(set(depths))) == tuple(map(int, split.split("x")))
        assert (max(widths), min(depths), max(depths)) == (1, 1, 8)
        assert all(width * 64 == int(width * 64) for width in widths)
    own = load_preset("digits-resnet", [])
    assert load_preset("digits-resnet", space_of("digits-resnet", "20x8")).space == own.space
    for preset, split, why in (
        ("digits-resnet", "20x9", "9 different"),
        ("digits-resnet", "20by8", "expected WIDTHSxDEPTHS"),
        ("digits-resnet", "0x8", "expected WIDTHSxDEPTHS"),
        ("cifar10-cpreresnet20", "2x2", "no widths in channels by depths"),
        ("cifar10-mobilenetv2", "2x2", "no widths in channels by depths"),
    ):
        with pytest.raises(RequestError, match=why):
            space_of(preset, split)


def test_the_largest_stays_alone_where_the_choice_of_rate_thins_the_space() -> None:
    script = _script("accuracy.nested_160")
    chosen: list[Any] = []

    class Listed:
        def results(self, trainings: Any) -> list[Any]:
            asked = list(trainings)
            chosen.extend(asked)
            return [{"rows": [{"metrics": {"validation": {"accuracy": 0.5}}}]} for _ in asked]

    settings = ["--set=train.epochs=2", "--tune-set=space.width=[0.5,1.0]"]
    words = ["nested_160", "digits-resnet", "--seeds=0", "--lr=1", "--alone-lr", "1", "2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [*words, *settings])
        options = script["arguments"]()
    alone = script["alone_settings"](options)
    script["train_side"]("alone", alone, options.alone_lr, options, Listed())
    assert len(chosen) == 3  # two rates tried, one training
    for training in chosen:
        assert all(
            len(v) == 1 for v in load_preset(training.preset, training.settings).space.values()
        )


def test_a_page_is_filled_between_its_marks() -> None:
    filled = _script("pages")["filled"]
    page = "a\n<!-- table: speed/data_rate.py data_rate.json -->\nold\n<!-- end -->\nb\n"
    new = filled(page)
    assert new.startswith("a\n<!-- table: speed/data_rate.py data_rate.json -->\n|")
    assert new.endswith("|\n<!-- end -->\nb\n")
    assert filled(new) == new


def test_a_finished_training_is_read_and_an_interrupted_one_goes_on(tmp_path: Path) -> None:
    script = _script("accuracy.trainings")
    settings = tuple(word.removeprefix("--set=") for word in TINY if word.startswith("--set="))
    training = script["Training"]("one", "digits-resnet", settings)
    trainer = script["Trainer"](tmp_path)
    (first,) = trainer.results([training])
    run = trainer.folder(training)
    written = (run / "weights.safetensors").stat().st_mtime_ns
    (again,) = trainer.results([training])
    assert again == first
    assert (run / "weights.safetensors").stat().st_mtime_ns == written
    assert [row["name"] for row in first["rows"]] == sorted({r["name"] for r in first["rows"]})
    unfinished(run)
    for name in ("weights.safetensors", "statistics.safetensors"):
        (run / name).unlink()
    (resumed,) = trainer.results([training])
    assert resumed["rows"] == first["rows"]


def test_one_spec_is_one_folder() -> None:
    """Other words for the same spec are the same training, another spec is another."""
    script = _script("accuracy.trainings")
    trainer = script["Trainer"](Path("trainings"))

    def folder(*settings: str) -> Path:
        return Path(trainer.folder(script["Training"]("one", "digits-resnet", settings)))

    assert folder("train.lr=0.2") == folder("train.lr=0.1", "train.lr=0.2", "train.draws=1")
    assert folder("train.lr=0.2") != folder("train.lr=0.1")


def test_rounds_of_chains_and_trees_gain_what_their_drafts_allow() -> None:
    """Three sure tokens, one that only the second candidate is right about, and two more."""
    names = _script("speed.draft_bounds")
    said = names["Said"]
    sure, unsure = said(True, False, 0.9), said(False, True, 0.3)
    text = [sure, sure, unsure, sure, sure, sure]

    def gained(kind: str, length: int) -> tuple[int, int]:
        made = names[kind](text, 0, length, 0.5)
        return made.gained, made.rows

    assert gained("chain", 5) == (3, 4)  # ends with the unsure one, which is wrong
    assert gained("leaf", 5) == (4, 5)
    assert gained("tree", 5) == (6, 5 + 3 + 1)
    assert gained("tree", 2) == gained("leaf", 2) == gained("chain", 2) == (3, 3)


def test_look_up_drafts_what_followed_the_longest_match() -> None:
    looked_up = _script("speed.draft_bounds")["looked_up"]
    assert looked_up([1, 2, 3, 7, 9, 3, 8, 1, 2, 3], 2) == [7, 9]
    assert looked_up([5, 3, 8, 3], 4) == [8, 3]
    assert looked_up([1, 2, 3], 4) == []


def test_a_training_may_take_several_processes(tmp_path: Path) -> None:
    script = _script("accuracy.trainings")
    training = script["Training"]("short", "digits-resnet", ("train.updates=1",))
    commands = [
        script["Trainer"](tmp_path, processes=number)._command(training) for number in (1, 2)
    ]
    words = [" ".join(command[1:5]) for command in commands]
    assert words[0] == "-m sortednet_cli train --quiet"
    assert words[1] == "-m torch.distributed.run --nproc-per-node=2 -m"
    assert commands[0][2:] == commands[1][5:]


def test_answers_are_kept_for_the_same_questions_only(tmp_path: Path) -> None:
    kept_results = _script("accuracy.answers")["kept_results"]
    path = tmp_path / "answers.json"
    asked = {"preset": "gsm8k-smollm2", "questions": 200}
    path.write_text(json.dumps({**asked, "results": {"alone": {"name": "twin"}}}))
    assert kept_results(path, asked) == {"alone": {"name": "twin"}}
    with pytest.raises(SystemExit, match="leave --only away"):
        kept_results(path, asked | {"questions": 100})
    with pytest.raises(SystemExit, match="leave --only away"):
        kept_results(tmp_path / "no.json", asked)
