"""The plan of a training on paper: formulas by hand, counts against passes that really run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sortednet_cli.cli import resources as shown
from sortednet_cli.data import nominal_format
from sortednet_cli.engine.planning import costs
from sortednet_cli.engine.planning.costs import Groups, Memory, Wire
from sortednet_cli.engine.planning.footprint import footprint_of
from sortednet_cli.engine.planning.passes import Route, routes_of, shared_macs
from sortednet_cli.engine.planning.resources import ResourcePlan, plan_resources
from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.families import open_family, root_of
from sortednet_cli.machine.live_bytes import LiveBytes
from sortednet_cli.nesting import NestedNetwork, init_network, stored_tensors
from sortednet_cli.rules import Rule, Share, equal_shares, make_rule
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import RunSpec, TrainSpec, load_preset, parse_spec, presets
from tests.commands import command, refused

SMALL = {
    "cifar10-mobilenetv2": ["space.width=[0.5, 1.0]", "space.depth=[8, 16, 17]"],
    "digits-resnet": ["space.width=[0.5, 1.0]"],
    "cifar10-resnet": ["space.width=[0.25, 0.5, 1.0]"],
    "fashion-mnist-resnet": ["space.width=[0.25, 0.5, 1.0]"],
}
"""Fewer sub-models of the presets with most: the tests of presets cost them all."""


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in _numbers(item)]
    return [value] if isinstance(value, int | float) else []


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_plans(name: str) -> None:
    plan = plan_resources(load_preset(name, SMALL.get(name, [])), 4)
    record = shown.record(plan)
    assert json.loads(json.dumps(record)) == record
    assert all(isfinite(number) and number >= 0 for number in _numbers(record))
    memory = record["memory_bytes"]["replicated"]
    assert memory["weights"] == 4 * plan.params
    assert memory["weights"] <= memory["gradient"] < memory["weights"] * 1.01 + 2**20
    assert memory["micro_batch"] > 0
    evaluation = plan.evaluation
    assert evaluation.largest <= evaluation.shared <= evaluation.alone
    assert plan.storage.run < plan.storage.artifacts or plan.submodels == 1
    depths_alone = set(load_preset(name).space) == {"depth"} and plan.unit == "token"
    assert set(record["memory_bytes"]) == set(record["wire_bytes"])
    assert ("sharded" in record["memory_bytes"]) == depths_alone
    assert "nan" not in shown.text(plan)


def test_memory_by_hand() -> None:
    """Two layers of 40 and 80 bytes and 20 bytes around them, on 4 devices."""
    groups = Groups((40, 80), 20)
    assert groups.whole == 140
    assert costs.replicated(140, 256, 280, 1000) == Memory(140, 256, 280, 0, 0, 1000)
    assert costs.replicated(140, 256, 280, 1000).total == 1676
    assert costs.sharded(groups, 280, 1000, 4) == Memory(35, 35, 70, 140, 140, 1000)


def test_wire_by_hand() -> None:
    """A ring of 4 sends 2 x 3/4 of the gradient; a gather 3/4; the loss and two flags 12 bytes."""
    assert costs.replicated_wire(400, 4) == Wire(0, 2 * (412 * 3 // 4))
    assert costs.replicated_wire(400, 1).total == 0
    groups = Groups((40, 80), 20)
    assert costs.sharded_wire(groups, 4, 1) == Wire(260 * 3 // 4, 140 * 3 // 4 + 2 * 9)
    assert costs.sharded_wire(groups, 4, 3).gather == 3 * (260 * 3 // 4)
    assert costs.sharded_wire(groups, 1, 3).total == 0


def _route(depth: int, tail: int) -> Route:
    return Route(tuple((f"layer {i}", 10) for i in range(depth)), tail, 0, 0)


@pytest.mark.parametrize(
    ("rule", "forward", "teacher"),
    [
        ("sorted", (10 + 1 + 30 + 1 + 40 + 1) / 3, 2 / 3 * 41),
        ("sum", 40 + 3, 0),
        ("sandwich", 40 + 3, 0),
    ],
)
def test_compute_by_hand(rule: str, forward: float, teacher: float) -> None:
    """Depths 1, 3 and 4 of layers of 10 and a tail of 1: what is drawn together runs once."""
    space = SearchSpace.of({"depth": [1, 3, 4]})
    routes = {s: _route(int(s.axes["depth"]), 1) for s in space.submodels}
    train = load_preset(
        "pydoc-llama",
        [f"train.rule={rule}", "train.num_random=1", "train.distill=true",
         "train.batch_size=6", "train.accumulate=2"],
    ).train  # fmt: skip
    found = costs.compute_of(train, make_rule(train, space), space, routes)
    assert found.forward == round(12 * forward)
    assert found.backward == 2 * found.forward
    assert found.teacher == round(12 * teacher)
    assert found.total == found.forward + found.backward + found.teacher
    half = train.model_copy(update={"largest_first": 0.5, "distill": False})
    mixed = costs.compute_of(half, make_rule(half, space), space, routes)
    assert mixed.forward == pytest.approx((found.forward + 12 * 41) / 2, abs=1)
    # Of the training's half depth 1 for a sixth, then 1 and 3, then all of them.
    opening = half.model_copy(update={"largest_first": 0.0, "smallest_first": 0.5})
    first, second, _ = (
        make_rule(half.model_copy(update={"largest_first": 0.0}), s)
        for _, s in space.growth_schedule()
    )
    parts = [costs.compute_of(half, r, space, routes).forward for r in (first, second)]
    opened = costs.compute_of(opening, make_rule(opening, space), space, routes).forward
    assert parts[0] == 12 * 11
    assert opened == pytest.approx((parts[0] + parts[1] + 4 * found.forward) / 6, abs=1)
    scored = costs.evaluation_of(space, routes, True, True)
    assert (scored.passes, scored.shared, scored.alone) == (1, 43, 83)
    assert (scored.largest, scored.recalibration) == (41, 40)


REAL = {
    "pydoc-llama": ["model.config.num_hidden_layers=3", "space.depth=[1, 2, 3]"],
    "sst2-minilm": ["task=masked-lm", "model.config.num_hidden_layers=3", "data.max_length=8",
                    "space.width=[0.5, 1.0]", "space.depth=[1, 2, 3]"],
    "cifar10-resnet": ["space.width=[0.5, 1.0]", "model.depth_order=late-first"],
    "digits-resnet": ["space.width=[0.5, 1.0]", "space.depth=[1, 4, 8]"],
    "cifar10-mobilenetv2": ["space.width=[0.25]", "space.depth=[15, 17]",
                            "model.depth_order=balanced"],
}  # fmt: skip


def _network(spec: RunSpec) -> NestedNetwork:
    family = open_family(root_of(spec.model, spec.task, nominal_format(spec).facts()))
    return NestedNetwork(family, SearchSpace.of(spec.space), init_network(family, 0))


@pytest.mark.parametrize("name", sorted(REAL))
def test_counts_are_those_of_real_passes(name: str) -> None:
    """Multiply-adds of the routes against the passes that evaluation runs, each group of them.

    Attention runs as plain products: torch counts no others of a CPU's.
    """
    spec = load_preset(name, REAL[name])
    inputs, network = nominal_format(spec), _network(spec)
    network.module.eval()
    routes = routes_of(network.family, network.space, inputs)
    for group in network.groups(network.space.submodels):
        for chosen in (group, group[-1:]):
            assert shared_macs([routes[s] for s in chosen]) == _real_macs(network, chosen, inputs)
    for submodel in (network.space.smallest, network.space.largest):
        kept = stored_tensors(network.standalone(submodel))
        assert routes[submodel].stored == sum(tensor.nbytes for tensor in kept.values())


def _real_macs(network: NestedNetwork, group: Sequence[SubModel], inputs: Any) -> int:
    plain = sdpa_kernel(SDPBackend.MATH)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), plain:
        shared = network.shared_pass(group, training=False)
        for number, states in enumerate(shared.states(inputs.random_inputs(1))):
            shared.logits(number, states.flatten(0, 1) if states.ndim == 3 else states)
    return int(counter.get_total_flops() // 2)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_optimizer_state_is_what_the_optimizer_keeps(optimizer: str, momentum: float) -> None:
    overrides = [f"train.optimizer={optimizer}", f"train.momentum={momentum}"]
    spec = load_preset("digits-resnet", [*overrides, "model.config.channels=[4]"])
    network = _network(spec)
    network.enable_training()
    kept = RootOptimizer(network, spec.train)
    kept.step(network.parameters, 0.1)
    weights = sum(parameter.nbytes for parameter in network.parameters.values())
    found = sum(tensor.nbytes for tensor in kept.state().values() if tensor.ndim)
    assert costs.optimizer_bytes(spec.train, weights) == found


@pytest.mark.parametrize(
    "setting", ["train.crossing_lr=0.3", "train.rare_lr=2.0", "train.smallest_first=0.5"]
)
def test_what_an_optimizer_holds_for_steps_in_part_is_planned(setting: str) -> None:
    spec = load_preset("digits-resnet", [setting, "model.config.channels=[8]"])
    network = _network(spec)
    network.enable_training()
    optimizer = RootOptimizer(network, spec.train)
    smallest = network.space.smallest
    if spec.train.smallest_first:
        optimizer.open(smallest, smallest)
    optimizer.step(network.plan(smallest).sources, 0.1)
    held = sum(t.nbytes for kind in (optimizer.step_masks, optimizer.before) for t in kind.values())
    weights = sum(parameter.nbytes for parameter in network.parameters.values())
    assert (
        0 < held <= costs.step_mask_bytes(spec.train, make_rule(spec.train, network.space), weights)
    )


def test_live_bytes_by_hand() -> None:
    """Two layers: what is alive after each operation is known."""
    first, second = nn.Linear(8, 16, bias=False), nn.Linear(16, 4, bias=False)
    inputs = torch.ones(32, 8)
    with LiveBytes([first.weight, second.weight]) as live:
        outputs = second(first(inputs))
    assert live.peak == 4 * 32 * (16 + 4)
    with LiveBytes([first.weight, second.weight]) as live, torch.no_grad():
        for _ in range(3):
            outputs = second(first(inputs))
    assert live.peak == 4 * 32 * (16 + 4 + 4)  # the last outputs are alive until the next
    half = torch.autocast("cpu", dtype=torch.bfloat16)
    with LiveBytes([first.weight, second.weight]) as live, half:
        outputs = second(first(inputs))
    assert live.casts == 2 * (8 * 16 + 16 * 4)
    assert outputs.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["train.rule=sorted"], ["w1-d8"]),
        (["train.rule=sandwich", "train.num_random=1"], ["w1-d8", "w1-d4"]),
        (["train.rule=sorted", "train.draws=2"], ["w1-d8", "w1-d4"]),
        (["train.rule=sum"], ["w1-d8", "w1-d4", "w1-d1"]),
        (["train.rule=single", "train.submodel=w0.5-d4"], ["w0.5-d4"]),
    ],
)
def test_the_heaviest_draw(overrides: list[str], names: list[str]) -> None:
    axes = ["space.width=[0.5, 1.0]", "space.depth=[1, 4, 8]", "train.distill=false"]
    spec = load_preset("digits-resnet", [*axes, *overrides])
    drawn = make_rule(spec.train, SearchSpace.of(spec.space)).heaviest()
    assert [submodel.name for submodel, _ in drawn] == names


def _tiny(*overrides: str) -> ResourcePlan:
    return plan_resources(load_preset("pydoc-llama", list(overrides)), 2)


def test_memory_grows_with_what_it_should() -> None:
    axes = ("space.depth=[1, 2]", "train.precision=fp32", "train.batch_size=2")
    small, large = _tiny(*axes), _tiny(*axes[:2], "train.batch_size=4")
    ratio = large.footprint.peak / small.footprint.peak
    assert 1.9 < ratio <= 2.0 and small.footprint.casts == 0
    half = _tiny(axes[0], axes[2], "train.precision=bf16").footprint
    assert 0 < half.casts <= 2 * small.params
    assert half.peak - half.casts < small.footprint.peak


class _Always(Rule):
    """Draws the same sub-models every time."""

    def __init__(self, train: TrainSpec, space: SearchSpace, drawn: list[SubModel]) -> None:
        super().__init__(train, space)
        self.drawn = drawn

    def draw(self, random: Random, progress: float = 1.0) -> list[Share]:
        return equal_shares(self.drawn)

    def heaviest(self) -> list[Share]:
        return equal_shares(self.drawn)


def test_memory_of_parts_that_are_one_view() -> None:
    """Query, key and value of a GPT-2, cut alike, in a sub-model that learns from the largest."""
    spec = load_preset(
        "pydoc-llama",
        ["model.family=gpt2", 'model.config={n_embd=16, n_layer=2, n_head=2, n_positions=64}',
         "space.width=[0.5, 1.0]", "space.depth=[2]", "train.rule=sandwich", "train.distill=true",
         "data.max_length=16", "data.vocab_size=300", "train.batch_size=2"],
    )  # fmt: skip
    assert plan_resources(spec).memory["replicated"].micro_batch > 0


@pytest.mark.parametrize(
    ("rule", "distill"), [("sorted", "true"), ("sandwich", "true"), ("sandwich", '"next"')]
)
def test_memory_counts_logits_of_teachers_in_place(rule: str, distill: str) -> None:
    """No draw takes more than is planned; a vocabulary makes logits as large as a pass."""
    spec = load_preset(
        "pydoc-llama",
        [f"train.rule={rule}", f"train.distill={distill}", "train.num_random=1",
         "train.random_exits=", "space.width=[0.5, 1.0]", "space.depth=[1, 2]",
         "model.config.num_hidden_layers=2", "model.config.vocab_size=4000",
         "data.max_length=16", "train.batch_size=2", "train.precision=fp32"],
    )  # fmt: skip
    inputs, space = nominal_format(spec), SearchSpace.of(spec.space)
    family = open_family(root_of(spec.model, spec.task, inputs.facts()))
    known = make_rule(spec.train, space)
    planned = footprint_of(family, known, spec.train, inputs).peak
    draws = {tuple(s for s, _ in known.draw(Random(number))) for number in range(32)}
    taken = [
        footprint_of(family, _Always(spec.train, space, list(drawn)), spec.train, inputs).peak
        for drawn in draws
    ]
    assert planned == max(taken)
    heaviest = _Always(spec.train, space, [submodel for submodel, _ in known.heaviest()])
    plain = spec.train.model_copy(update={"distill": False})
    assert planned > footprint_of(family, heaviest, plain, inputs).peak


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("--plan", "--preset=pydoc-llama", "--set=space.depth=[1, 8]")
    done = command("info", *small, "--processes=2", "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert (found["submodels"], found["processes"]) == (2, 2)
    assert found["memory_bytes"]["replicated"]["weights"] == 4 * found["params"] == 6857216
    assert found["wire_bytes"]["replicated"]["total"] == 6857216 + 12
    text = command("info", *small).out
    assert "weights               6.857 MB" in text and "sharded" not in text
    assert not list(tmp_path.iterdir())


SPEC = "--preset=pydoc-llama"
WRONG = {
    "without --plan": ([SPEC], ["--preset", "--plan"]),
    "with a run": (["--plan", SPEC, "runs/a"], ["--preset", "no run, artifact or axes"]),
    "with axes": (["--plan", SPEC, "--depth=2"], ["no run, artifact or axes"]),
    "both": (["--plan", SPEC, "--config=a.toml"], ["one of --preset NAME and --config FILE"]),
    "no file": (["--plan", "--config=a.toml"], ["cannot read the spec a.toml"]),
    "no preset": (["--plan", "--preset=pydoc-lama"], ["did you mean pydoc-llama?"]),
    "overrides alone": (["--plan", "--set=train.seed=1"], ["--set", "--preset or --config"]),
    "processes alone": (["--plan", "--processes=2"], ["--processes", "--preset or --config"]),
    "no processes": (["--plan", SPEC, "--processes=0"], ["--processes"]),
    "processes": (["--plan", SPEC, "--processes=many"], ["--processes"]),
    "key": (["--plan", SPEC, "--set=train.nope=1"], ["train.nope", "unknown key"]),
    "width": (
        ["--plan", "--preset=sst2-minilm", "--set=space.width=[0.3, 1.0]"],
        ["width 0.3", "legal values are"],
    ),
    "depth": (["--plan", SPEC, "--set=space.depth=[1, 99]"], ["99"]),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_wrong_requests(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, fragments = WRONG[name]
    refused(command("info", *arguments), 2, *fragments)


def test_a_pretrained_model_without_sizes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = presets.text("sst2-bert").splitlines()
    kept = [line for line in lines if not line.startswith("hidden_size")]
    assert len(kept) < len(lines)
    Path("a.toml").write_text("\n".join(kept))
    refused(command("info", "--plan", "--config=a.toml"), 2, "hidden_size", "pretrained")


def test_a_custom_network_in_a_sandwich() -> None:
    """Its sub-models share no pass."""
    spec = """
        [model]
        family = "custom"
        factory = "tests.pico:FlatNet"
        config = { hidden = 8, layers = 2, num_classes = 10 }
        blocks = { paths = ["net"], before = 1, after = 2 }
        axes = { width = { scales = ["hidden"] }, depth = { sets = "layers" } }
        [space]
        width = [0.5, 1.0]
        depth = [1, 2]
        [train]
        rule = "sandwich"
        updates = 1
        [data]
        source = "cifar10"
        image_size = 8
    """
    plan = plan_resources(parse_spec(spec, where="here", name="flat"))
    assert plan.footprint.peak > 0 and plan.submodels == 4
