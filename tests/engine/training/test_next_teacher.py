"""`train.distill = "next"`: each sub-model learns from the next larger one of its micro-batch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count, permutations
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sortednet_cli.engine.training.events import Interrupted
from sortednet_cli.engine.training.micro_batch import MicroBatches
from sortednet_cli.engine.training.start import create_session, reopen_session
from sortednet_cli.engine.training.teaching import larger_first, next_larger, product_of_axes
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.rules import equal_shares
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import RunSpec, TrainSpec, load_preset
from sortednet_cli.tasks import make_task
from tests.commands import command, refused
from tests.pico import NUM_CLASSES, PICOS, Pico

pytestmark = pytest.mark.filterwarnings("ignore:grad and param do not obey")

CPU = torch.device("cpu")
NEXT = 'train.distill="next"'


def _named(*names: str) -> list[SubModel]:
    space = SearchSpace.of({"width": [0.5, 0.75, 1.0], "depth": [1, 2, 4]})
    return [space.named(name) for name in names]


def test_the_teacher_is_the_smallest_that_contains_its_student() -> None:
    drawn = _named("w1-d4", "w0.5-d4", "w1-d2", "w0.5-d2", "w0.75-d1")
    macs = {"w1-d4": 4.0, "w0.5-d4": 1.0, "w1-d2": 2.0, "w0.5-d2": 0.5, "w0.75-d1": 0.6}
    teaching = next_larger(drawn, lambda submodel: macs[submodel.name])
    assert {str(student): str(teacher) for student, teacher in teaching.items()} == {
        "w0.5-d4": "w1-d4",
        "w1-d2": "w1-d4",
        "w0.5-d2": "w0.5-d4",  # w1-d2 contains it too, for more multiply-adds
        "w0.75-d1": "w1-d2",
    }


def test_who_is_contained_in_no_other_has_no_teacher() -> None:
    assert next_larger(_named("w1-d1", "w0.5-d4"), product_of_axes) == {}


def test_passes_run_after_those_that_they_learn_from() -> None:
    """In any order of the draw: depths of a width share a pass, and heads lie between them."""
    space = SearchSpace.of({"width": [0.5, 1.0], "depth": [1, 2], "heads": [2, 4]})
    drawn = [space.submodels[number] for number in (0, 2, 3, 5, 7)]
    for order in permutations(drawn):
        shares = larger_first(equal_shares(order))
        ranks: dict[SubModel, int] = {}
        for number, (submodel, _) in enumerate(shares):
            own = {k: v for k, v in submodel.axes.items() if k != "depth"}
            same = [n for s, n in ranks.items() if {**s.axes, **own} == s.axes]
            ranks[submodel] = min([*same, number])  # the pass of its first sub-model
        for student, teacher in next_larger(list(order), product_of_axes).items():
            assert isinstance(teacher, SubModel)
            assert ranks[teacher] <= ranks[student]


def _expected(
    network: NestedNetwork, pico: Pico, drawn: Sequence[SubModel], labels: Tensor, spec: TrainSpec
) -> list[Tensor]:
    """Each loss from whole passes of single modules, as the definition says."""
    ordered = [submodel for submodel, _ in larger_first(equal_shares(drawn))]
    teaching = next_larger(ordered, product_of_axes)
    logits = {submodel: pico.run(network.at(submodel).train()) for submodel in drawn}
    losses = []
    for student in drawn:
        loss = F.cross_entropy(logits[student], labels)
        if student in teaching:
            teacher = teaching[student]
            assert isinstance(teacher, SubModel)
            soft = (logits[teacher].detach() / spec.temperature).softmax(1)
            taught = F.cross_entropy(logits[student] / spec.temperature, soft)
            taught = taught * spec.temperature**2
            loss = spec.teacher_share * taught + (1 - spec.teacher_share) * loss
        losses.append(loss / len(drawn))
    return losses


@pytest.mark.parametrize("training_rows", [1, 4])
@pytest.mark.parametrize("model", ["preact_basic", "llama_classifier", "gemma3_apart"])
def test_labels_and_the_next_larger_both_teach(
    model: str, monkeypatch: pytest.MonkeyPatch, training_rows: int
) -> None:
    """Losses and gradients, in shared passes: chunks of three rows, or of four in two parts."""
    pico = PICOS[model]
    network, labels = pico.network(), torch.tensor([0, 1, 2, 3])
    monkeypatch.setattr("sortednet_cli.tasks.chunks.MAX_CHUNK_LOGITS", 3 * NUM_CLASSES)
    monkeypatch.setattr("sortednet_cli.tasks.chunks.TRAINING_ROWS", training_rows)
    spec = TrainSpec.model_validate(
        {"updates": 1, "distill": "next", "teacher_share": 0.25, "temperature": 2.0,
         "precision": "fp32"}
    )  # fmt: skip
    drawn = [s for number, s in enumerate(network.space.submodels) if number % 3 != 1]
    kind = "text" if pico.is_text else "image"
    micro = MicroBatches(network, make_task("classification", kind, NUM_CLASSES, 0.0), spec)
    network.zero_gradients()
    losses = micro.add_gradients((pico.inputs(), labels), equal_shares(drawn))
    found = {loss.submodel: loss.loss for loss in losses}
    gradients = {name: gradient.clone() for name, gradient in network.gradients.items()}
    network.zero_gradients()
    expected = _expected(network, pico, drawn, labels, spec)
    torch.autograd.backward(torch.stack(expected).sum())
    for submodel, loss in zip(drawn, expected, strict=True):
        torch.testing.assert_close(found[submodel], loss.detach())
    for name, gradient in network.gradients.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-6)


def _tiny(*settings: str) -> RunSpec:
    small = ("model.config.channels=[6]", "model.config.blocks=[3]", "space.depth=[1,2,3]",
             "train.batch_size=16", "train.updates=6")  # fmt: skip
    return load_preset("digits-resnet", [*small, "space.width=[0.5,1.0]", *settings])


@pytest.mark.parametrize(
    "rule",
    [
        ("train.rule=sorted", "train.draws=3"),
        ("train.rule=sandwich", "train.teacher_share=0.5"),
        ("train.rule=sandwich-sum",),
        ("train.rule=sum", "train.smallest_first=0.5"),
        ("train.rule=sorted", "train.draws=2", "train.largest_first=0.5"),
    ],
)
def test_a_resumed_training_is_an_uninterrupted_one(rule: tuple[str, ...], tmp_path: Path) -> None:
    weights = {}
    for name, settings in {
        "straight": (NEXT, *rule),
        "broken": (NEXT, *rule),
        "untaught": tuple(setting for setting in rule if "share" not in setting),
    }.items():
        spec = _tiny("train.smallest_first=0", *settings)
        session, calls = create_session(tmp_path / name, spec, CPU), count()
        if name == "broken":
            with pytest.raises(Interrupted):
                list(session.events(lambda: next(calls) >= 3))  # noqa: B023
            session = reopen_session(session.run, CPU, ())
        list(session.events())
        weights[name] = (tmp_path / name / "weights.safetensors").read_bytes()
    assert weights["straight"] == weights["broken"]
    assert weights["straight"] != weights["untaught"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.rule=sorted"], "raise train.draws, or set train.distill to true"),
        (["train.rule=sum", "train.random_exits=0"], "take another rule"),
        (["train.rule=single"], "train.distill has no teacher under the rule 'single'"),
        (["train.rule=sandwich", "train.teacher=x"], "give one of train.distill and train.teacher"),
    ],
)
def test_where_there_is_no_next_larger_one_it_is_refused(
    settings: list[str], message: str, tmp_path: Path
) -> None:
    words = ["train", "--preset=digits-resnet", f"--out={tmp_path / 'run'}", f"--set={NEXT}"]
    first = ["--set=train.smallest_first=0", "--set=train.draws=1"]
    refused(command(*words, *first, *(f"--set={setting}" for setting in settings)), 2, message)
    assert not list(tmp_path.iterdir())


def test_a_plan_counts_no_pass_of_a_teacher() -> None:
    plans = [
        command("info", "--plan", "--preset=digits-resnet", "--json", "--set=train.draws=2",
                "--set=train.smallest_first=0", f"--set=train.distill={choice}")
        for choice in ("false", '"next"', "true")
    ]  # fmt: skip
    without, following, largest = (json.loads(plan.out)["update_macs"] for plan in plans)
    assert without == following
    assert following["teacher"] == 0 < largest["teacher"]
