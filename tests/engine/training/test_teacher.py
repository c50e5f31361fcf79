"""A fixed teacher: what its students learn from it, and what cannot teach."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch.nn import functional as F

from sortednet_cli import load_run
from sortednet_cli.data import ImageFormat, open_data
from sortednet_cli.engine.planning.resources import plan_resources
from sortednet_cli.engine.sources.opening import open_source
from sortednet_cli.engine.training.micro_batch import MicroBatches
from sortednet_cli.engine.training.teacher import FixedTeacher, load_teacher, open_teacher
from sortednet_cli.errors import RequestError
from sortednet_cli.nesting import NestedNetwork, init_network
from sortednet_cli.spec import RunSpec, TrainSpec, load_preset
from sortednet_cli.storage.files import read_json
from sortednet_cli.tasks import make_task
from tests.commands import command, refused
from tests.pico import NUM_CLASSES, PICOS

pytestmark = pytest.mark.filterwarnings("ignore:grad and param do not obey")

CPU = torch.device("cpu")
SMALL = ("space.width=[0.5,1.0]", "train.updates=3")
DIGITS = ["train", "--preset=digits-resnet", *(f"--set={setting}" for setting in SMALL), "--quiet"]


def test_every_sub_model_learns_from_teacher_and_labels() -> None:
    pico = PICOS["preact_basic"]
    network, teacher = (
        pico.network(),
        NestedNetwork(pico.family(), pico.search_space, init_network(pico.family(), 7).eval()),
    )
    spec = TrainSpec(updates=1, teacher="x", teacher_share=0.25, temperature=2.0, precision="fp32")
    task = make_task("classification", "image", NUM_CLASSES, 0.0)
    images, labels = pico.images(), torch.arange(len(pico.images())) % NUM_CLASSES
    micro = MicroBatches(network, task, spec, teacher=FixedTeacher(teacher))
    drawn = [(network.space.largest, 0.5), (network.space.smallest, 0.5)]
    losses = micro.add_gradients((images, labels), drawn)
    with torch.no_grad():
        logits = teacher.at(teacher.space.largest).eval()(images)
    for submodel, loss in zip((s for s, _ in drawn), losses, strict=True):
        own = network.at(submodel).train()(images)
        softer = (logits / 2).softmax(1)
        taught = -(softer * (own / 2).log_softmax(1)).sum(1).mean() * 4
        expected = 0.25 * taught + 0.75 * F.cross_entropy(own, labels)
        torch.testing.assert_close(loss.loss, 0.5 * expected.detach())
    assert all(parameter.grad is None for parameter in teacher.module.parameters())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "run"
    assert command(*DIGITS, f"--out={folder}").code == 0
    return folder


def _spec(*settings: str) -> RunSpec:
    return load_preset("digits-resnet", [*SMALL, *settings])


@pytest.mark.parametrize("kind", ["run", "artifact"])
def test_a_run_and_an_artifact_teach_alike(
    kind: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    teacher = run
    if kind == "artifact":
        assert command("extract", str(run), "--width=1", "--out=artifact").code == 0
        teacher = Path("artifact")
    done = command(*DIGITS, "--out=taught", f"--set=train.teacher={teacher}", "--set=train.seed=1")
    assert done.code == 0, done.err
    assert command(*DIGITS, "--out=alone", "--set=train.seed=1").code == 0
    taught, alone = (load_run(name).network().module.state_dict() for name in ("taught", "alone"))
    assert any(not torch.equal(taught[name], alone[name]) for name in taught)
    data = open_data(_spec().data, "classification")
    source = open_teacher(str(teacher), data)
    batch = data.test.batches(8, CPU)
    images, labels = next(iter(batch))
    task = make_task("classification", "image", 10, 0.0)
    (logits,) = load_teacher(source, data, CPU).logits(task, images, task.targets(labels, CPU))
    with torch.no_grad():
        expected = open_source(run).network().at(source.space.largest)(images)
    torch.testing.assert_close(logits, expected)


def test_images_get_the_teachers_normalisation(run: Path) -> None:
    data = open_data(_spec().data, "classification")
    own = cast(ImageFormat, data.format)
    other = replace(own, mean=(0.5,), std=(0.25,))
    source = replace(open_teacher(str(run), data), format=other)
    teacher = load_teacher(source, data, CPU)
    images = torch.rand(4, 1, own.image_size, own.image_size)
    task = make_task("classification", "image", 10, 0.0)
    targets = task.targets(torch.zeros(4, dtype=torch.int64), CPU)
    normalised = (images - own.mean[0]) / own.std[0]
    (logits,) = teacher.logits(task, normalised, targets)
    with torch.no_grad():
        expected = source.network().at(source.space.largest)((images - 0.5) / 0.25)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.teacher=nowhere/at/all"], "train.teacher: there is no file or folder nowhere/at"),
        (["train.teacher=."], "train.teacher: "),
        (["train.distill=true"], "give one of train.distill and train.teacher"),
        (["data.image_size=16"], "takes images (1, 8, 8), not (1, 16, 16)"),
    ],
)
def test_what_cannot_teach_is_refused(
    settings: list[str], message: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = [f"--set={setting}" for setting in (f"train.teacher={run}", *settings)]
    refused(command(*DIGITS, *options), 2, message)
    assert not Path("runs").exists()


def test_other_classes_are_refused(run: Path) -> None:
    data: Any = open_data(_spec().data, "classification")
    data.format = replace(data.format, classes=tuple("abcdefghij"))
    with pytest.raises(RequestError, match="has other classes: 0, 1, 2, 3, 4 and 5 more"):
        open_teacher(str(run), data)


def test_texts_need_the_teachers_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = [
        "--set=model.config.hidden_size=16",
        "--set=model.config.num_attention_heads=4",
        "--set=model.config.num_key_value_heads=4",
        "--set=model.config.intermediate_size=16",
        "--set=train.updates=2",
        "--set=data.max_length=32",
    ]
    for name, words in (("one.txt", "red green blue"), ("two.txt", "uno due tre")):
        Path(name).write_text("\n\n".join(f"{words} {number}" for number in range(200)))
    train = ["train", "--preset=shakespeare-llama", *small, "--quiet", "--set=data.vocab_size=300"]
    spare = "--set=model.config.vocab_size=384"  # rows of its embedding that no token has
    done = command(*train, "--data=one.txt", "--out=teacher", spare)
    assert done.code == 0, done.err
    taught = command(*train, "--data=one.txt", "--out=taught", "--set=train.teacher=teacher")
    assert taught.code == 0, taught.err
    assert read_json(Path("taught/run.json"))["state"] == "finished"
    other = command(*train, "--data=two.txt", "--out=other", "--set=train.teacher=teacher")
    refused(other, 2, "teacher has another tokenizer")
    _check_plan([setting.removeprefix("--set=") for setting in (*small, spare)])


def _check_plan(settings: list[str]) -> None:
    """A plan counts the teacher on the students' length, its weights, and logits that wait."""
    alike = [*settings, "train.rule=single"]
    plain = plan_resources(load_preset("shakespeare-llama", [*alike, "data.max_length=16"]))
    shorter = load_preset(
        "shakespeare-llama", [*alike, "data.max_length=16", "train.teacher=teacher"]
    )
    taught = plan_resources(shorter)
    samples = shorter.train.accumulate * shorter.train.batch_size
    assert plain.compute.teacher == 0
    assert taught.compute.teacher == samples * taught.evaluation.largest
    before, after = plain.memory["replicated"], taught.memory["replicated"]
    assert (before.teacher, after.teacher) == (0, before.weights)
    assert after.total == before.total + after.teacher + after.micro_batch - before.micro_batch
    held = 4 * shorter.train.batch_size * 16 * 384
    assert held <= after.micro_batch - before.micro_batch < 4 * held
    longer = load_preset(
        "shakespeare-llama", [*alike, "data.max_length=64", "train.teacher=teacher"]
    )
    with pytest.raises(RequestError, match="takes 32 tokens, fewer than"):
        plan_resources(longer)


NETS = """
from torch import nn

def small(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

def large(width):
    return small(4 * width)
"""

CUSTOM = """
[model]
family = "custom"
factory = "nets_of_a_teacher:FACTORY"
config = {width = 8}
[model.axes.width]
scales = ["width"]
[space]
width = [0.5, 1.0]
[train]
updates = 1
[data]
source = "digits"
"""


def test_a_teachers_own_factory_runs_if_it_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets_of_a_teacher.py").write_text(NETS)
    for name in ("small", "large"):
        Path(f"{name}.toml").write_text(CUSTOM.replace("FACTORY", name))
    assert command("train", "--config=large.toml", "--out=teacher", "--quiet").code == 0
    taught = ("--config=small.toml", "--set=train.teacher=teacher")
    allowed = "--allow-factory=nets_of_a_teacher:large"
    for asked in (["train", "--out=taught", "--quiet"], ["info", "--plan"]):
        refused(command(*asked, *taught), 2, allowed.replace("=", " "))
        done = command(*asked, *taught, allowed)
        assert done.code == 0, done.err
    assert read_json(Path("taught/run.json"))["state"] == "finished"


def test_a_plan_counts_the_teacher(run: Path) -> None:
    plain = command("info", "--plan", "--preset=digits-resnet", "--json")
    taught = command(
        "info", "--plan", "--preset=digits-resnet", "--json", f"--set=train.teacher={run}"
    )
    assert taught.code == 0, taught.err
    assert plain.out != taught.out
