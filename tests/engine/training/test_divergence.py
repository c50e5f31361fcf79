"""`train.divergence`: how students are compared with their teacher."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sortednet_cli.engine.training.events import Interrupted
from sortednet_cli.engine.training.start import create_session, reopen_session
from sortednet_cli.spec import load_preset
from sortednet_cli.tasks import make_task
from sortednet_cli.tasks.divergence import MAX_RATIO, Divergence, alpha_divergence
from tests.commands import command, refused

CPU = torch.device("cpu")
ALPHA = 'train.divergence="alpha"'


def _logits(*probabilities: list[float]) -> Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).log().requires_grad_()


def _gradient(value: Tensor, logits: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(value, logits)
    return found


def _at_minus_one(q: Tensor, p: Tensor) -> Tensor:
    return ((q**2 / p).sum(1) - 1) / 2


def _at_one(q: Tensor, p: Tensor) -> Tensor:
    return (p * (p / q).log()).sum(1)


@pytest.mark.parametrize(
    ("student", "teacher", "larger"),
    [
        ([0.7, 0.2, 0.1], [0.2, 0.4, 0.4], _at_minus_one),  # sure of what the teacher doubts
        ([0.98, 0.01, 0.01], [0.6, 0.2, 0.2], _at_one),  # misses two classes of the teacher
    ],
)
def test_the_larger_divergence_is_taken(
    student: list[float], teacher: list[float], larger: Callable[[Tensor, Tensor], Tensor]
) -> None:
    """Value and gradient are those of the definition, where no ratio is clipped."""
    logits, p = _logits(student), torch.tensor([teacher], dtype=torch.float64)
    q = logits.softmax(1)
    assert (q / p).max() < MAX_RATIO
    both = {measure: measure(q, p) for measure in (_at_minus_one, _at_one)}
    assert max(both, key=lambda measure: both[measure].item()) is larger
    found = alpha_divergence(logits, p.log())
    torch.testing.assert_close(found, both[larger].mean())
    torch.testing.assert_close(_gradient(found, logits), _gradient(both[larger].sum(), logits))


def test_rows_choose_for_themselves() -> None:
    rows = [[0.7, 0.2, 0.1], [0.98, 0.01, 0.01]], [[0.2, 0.4, 0.4], [0.6, 0.2, 0.2]]
    students, teachers = (_logits(*part) for part in rows)
    alone = [alpha_divergence(students[n : n + 1], teachers[n : n + 1]) for n in range(2)]
    torch.testing.assert_close(alpha_divergence(students, teachers), sum(alone) / 2)


def test_a_large_ratio_is_clipped() -> None:
    """A class that the teacher has ruled out pulls with five times its probability, not 1e30."""
    logits, teacher = _logits([0.6, 0.4]), _logits([1e-30, 1.0])
    found = alpha_divergence(logits, teacher)
    torch.testing.assert_close(found.item(), (0.6 * 4 + 0.4 * (0.4 - 1)) / 2)
    # q_i r_i, less its share of their sum: the gradient through the softmax.
    pull = torch.tensor([0.6 * MAX_RATIO, 0.4 * 0.4], dtype=torch.float64)
    expected = pull - torch.tensor([0.6, 0.4], dtype=torch.float64) * pull.sum()
    torch.testing.assert_close(_gradient(found, logits)[0], expected)


def test_a_student_that_agrees_has_nothing_to_learn() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = alpha_divergence(logits, logits.detach())
    torch.testing.assert_close(found.item(), 0.0, rtol=0, atol=1e-6)
    torch.testing.assert_close(_gradient(found, logits), torch.zeros(5, 7), rtol=0, atol=1e-7)


def test_extreme_logits_stay_numbers() -> None:
    logits = torch.tensor([[300.0, -300.0], [-300.0, 300.0]], requires_grad=True)
    found = alpha_divergence(logits, torch.tensor([[-300.0, 300.0], [-300.0, 300.0]]))
    assert torch.isfinite(found)
    assert torch.isfinite(_gradient(found, logits)).all()


def test_share_and_temperature_weigh_it_as_any_other() -> None:
    task = make_task("classification", "image", 3, 0.0)
    generator = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(2, 4, 3, generator=generator)
    labels = torch.tensor([0, 1, 2, 0])
    found = task.loss(logits, labels, teacher, 0.25, 2.0, "alpha")
    taught = 4 * alpha_divergence(logits / 2, teacher / 2)
    torch.testing.assert_close(found, 0.25 * taught + 0.75 * task.loss(logits, labels))
    assert torch.equal(
        task.loss(logits, labels, None, 1.0, 1.0, "alpha"), task.loss(logits, labels)
    )


@pytest.mark.parametrize("divergence", ["kl", "alpha"])
@pytest.mark.parametrize("sizes", [(5, 3), (3, 5)])
def test_spare_tokens_of_either_side_are_not_compared(
    sizes: tuple[int, int], divergence: Divergence
) -> None:
    """Models of one tokenizer may have embeddings of other sizes, as those of Qwen2 have."""
    task = make_task("causal-lm", "text", 3, 0.0)
    generator = torch.Generator().manual_seed(0)
    logits, teacher = (torch.randn(4, size, generator=generator) for size in sizes)
    logits.requires_grad_()
    labels = torch.tensor([0, 1, 2, 0])
    found = task.loss(logits, labels, teacher, 0.5, 2.0, divergence)
    taught = task.loss(logits[:, :3], labels, teacher[:, :3], 1.0, 2.0, divergence)
    torch.testing.assert_close(found, 0.5 * taught + 0.5 * F.cross_entropy(logits, labels))
    assert torch.isfinite(_gradient(found, logits)).all()


@pytest.mark.parametrize("distill", ["true", '"next"'])
def test_a_resumed_training_is_an_uninterrupted_one(distill: str, tmp_path: Path) -> None:
    weights = {}
    for name in ("straight", "broken", "kl"):
        small = ["model.config.channels=[6]", "model.config.blocks=[3]", "space.depth=[1,2,3]",
                 "space.width=[0.5,1.0]", "train.batch_size=16", "train.updates=4",
                 "train.rule=sandwich", "train.draws=1", "train.smallest_first=0",
                 f"train.distill={distill}"]  # fmt: skip
        spec = load_preset("digits-resnet", [*small, *([ALPHA] if name != "kl" else [])])
        session, calls = create_session(tmp_path / name, spec, CPU), count()
        if name == "broken":
            with pytest.raises(Interrupted):
                list(session.events(lambda: next(calls) >= 2))  # noqa: B023
            session = reopen_session(session.run, CPU, ())
        list(session.events())
        weights[name] = session.run.weights.read_bytes()
    assert weights["straight"] == weights["broken"]
    assert weights["straight"] != weights["kl"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (ALPHA, "train.divergence needs train.teacher or train.distill"),
        ('train.divergence="beta"', "train.divergence: must be 'kl' or 'alpha'"),
    ],
)
def test_what_it_cannot_be_is_refused(setting: str, message: str, tmp_path: Path) -> None:
    done = command("train", "--preset=digits-resnet", f"--set={setting}", f"--out={tmp_path / 'r'}")
    refused(done, 2, message)
    assert not list(tmp_path.iterdir())
