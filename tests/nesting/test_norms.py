"""Norms of each width's own: who shares them, what training changes, what an artifact holds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sortednet_cli import load_artifact, load_run
from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.errors import RequestError
from sortednet_cli.nesting import NestedNetwork, own_norms, plan_between, plan_from_root
from sortednet_cli.space import SubModel
from sortednet_cli.spec import TrainSpec
from tests.commands import TINY, command
from tests.pico import PICOS, Pico
from tests.resuming import check_resumes, opening

pytestmark = pytest.mark.filterwarnings("ignore:grad and param do not obey")

CPU = torch.device("cpu")
TRAIN = ("train", *TINY, "--set=model.norms=by-width", "--quiet")

NO_NORM = {"bert_masked", "distilbert_masked", "gpt2_classifier"}
"""Their axis is `ffn`, which scales no norm."""

SCALED = sorted(PICOS.keys() - NO_NORM)


def _by_width(name: str) -> Pico:
    pico = PICOS[name]
    return replace(pico, model={**pico.model, "norms": "by-width"})


def _norm_width(network: NestedNetwork, submodel: SubModel) -> tuple[int | float, ...]:
    """A sub-model's values on the axes that scale norms."""
    return tuple(submodel.axes[axis] for axis in own_norms(network.family).axes)


def _norms(network: NestedNetwork, submodel: SubModel) -> frozenset[str]:
    """The norms that a sub-model has in the root."""
    norms = own_norms(network.family)
    return network.plan(submodel).sources & (norms.shared | norms.vectors.keys())


@torch.no_grad()
def _set_norms(network: NestedNetwork, names: Iterable[str]) -> None:
    """Give norms values unlike those of any stock class, some of which are all 0."""
    for name in names:
        network.parameters[name].copy_(torch.linspace(0.5, 1.5, network.parameters[name].numel()))


@pytest.mark.parametrize("name", SCALED)
def test_sub_models_share_norms_only_with_those_of_their_width(name: str) -> None:
    """All else is shared as without the setting."""
    network, shared = _by_width(name).network(), PICOS[name].network()
    widths: dict[object, set[str]] = {}
    for submodel in network.space.submodels:
        plan, plain = network.plan(submodel), shared.plan(submodel)
        norms = _norms(network, submodel)
        assert norms and plan.statistics == plain.statistics
        for own, piece in plan.slices.items():
            assert piece == plain.slices[own] or piece.source in norms
            assert piece.shape == plain.slices[own].shape
        widths.setdefault(_norm_width(network, submodel), set()).update(norms)
    assert len(widths) > 1
    assert sum(map(len, widths.values())) == len(set().union(*widths.values()))
    assert network.parameters.keys() >= set().union(*widths.values())


@pytest.mark.parametrize("name", SCALED)
def test_training_one_width_leaves_the_norms_of_the_others_alone(name: str) -> None:
    """Decay and momentum too; its own norms change, and so does what a wider one shares."""
    pico = _by_width(name)
    network = pico.network()
    _set_norms(network, {n for s in network.space.submodels for n in _norms(network, s)})
    smallest, largest = network.space.smallest, network.space.largest
    spec = TrainSpec(updates=1, optimizer="adamw", decay="all", weight_decay=0.1, lr=0.1)
    optimizer = RootOptimizer(network, spec)
    for trained, other in ((smallest, largest), (largest, smallest)):
        before = {name: tensor.clone() for name, tensor in network.weights.items()}
        network.zero_gradients()
        outputs = pico.run(network.at(trained).train())
        loss: Any = (outputs * torch.arange(outputs.numel()).view_as(outputs)).sum()
        loss.backward()
        optimizer.step(network.plan(trained).sources, lr=0.1)
        changed = {n for n, tensor in network.weights.items() if not torch.equal(tensor, before[n])}
        assert _norms(network, trained) <= changed
        assert not _norms(network, other) & changed
        assert network.plan(other).sources & changed


@pytest.mark.parametrize("name", SCALED)
def test_they_start_as_the_shared_ones(name: str) -> None:
    """So that every sub-model begins as it does without the setting."""
    pico = _by_width(name)
    network, shared = pico.network(), PICOS[name].network()
    with torch.no_grad():
        for each in (network, shared):
            _set_norms(each, sorted(own_norms(network.family).shared))
        network.start_own_norms()
        for submodel in pico.spread():
            found, expected = (pico.run(each.at(submodel).eval()) for each in (network, shared))
            assert torch.equal(found, expected)


@pytest.mark.parametrize("name", SCALED)
def test_an_artifact_holds_the_norms_of_one_width(name: str) -> None:
    """Cut again in depth it is what is cut out of the root; another width is not in it."""
    network = _by_width(name).network()
    family, space, norms = network.family, network.space, own_norms(network.family)
    for outer in {space.smallest, space.largest}:
        to_outer, within = plan_from_root(family, outer), norms.space_within(space, outer)
        for inner in space.nested_in(outer).submodels:
            if inner in within.submodels:
                composed = to_outer.then(plan_between(family, outer, inner))
                assert composed == plan_from_root(family, inner)
            else:
                with pytest.raises(RequestError, match="is not nested in"):
                    plan_between(family, outer, inner)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("norms") / "run"
    done = command(*TRAIN, f"--out={folder}")
    assert (done.code, done.err) == (0, "")
    return folder


def test_what_is_extracted_is_what_was_trained(run: Path, tmp_path: Path) -> None:
    stored = load_file(run / "weights.safetensors")
    norms = {name for name in stored if "norm" in name}
    assert {name.partition("@")[2] for name in norms} == {"", "w0.5"}
    assert all(stored[name].shape[0] == 4 for name in norms if name.endswith("@w0.5"))
    network, images = load_run(run).network(), torch.randn(4, 1, 8, 8)
    for width in (0.5, 1.0):
        out = tmp_path / f"w{width}"
        done = command("extract", run, f"--width={width}", f"--out={out}", "--json", "--quiet")
        assert json.loads(done.out)["verified"]["tensors_equal"]
        artifact = load_file(out / "model.safetensors")
        assert not [name for name in artifact if "@" in name]
        own = "@w0.5" if width == 0.5 else ""
        assert torch.equal(artifact["norm.weight"], stored[f"norm.weight{own}"])
        with torch.no_grad():
            inside = network.at(width=width)(images)
            assert torch.equal(load_artifact(out).module()(images), inside)
    half = _artifact_norm(tmp_path / "w0.5")
    assert not torch.equal(half, stored["norm.weight"][:4])


def _artifact_norm(path: Path) -> Tensor:
    return load_file(path / "model.safetensors")["norm.weight"]


def test_an_artifact_is_cut_again_in_depth_alone(run: Path, tmp_path: Path) -> None:
    whole, shallow = tmp_path / "whole", tmp_path / "shallow"
    assert command("extract", run, f"--out={whole}", "--quiet").code == 0
    done = command("extract", whole, "--depth=1", f"--out={shallow}", "--quiet")
    assert done.code == 0, done.err
    assert torch.equal(_artifact_norm(shallow), _artifact_norm(whole))
    done = command("extract", whole, "--width=0.5", f"--out={tmp_path / 'half'}")
    assert done.code == 2
    assert "width 0.5 is not in the search space; legal values are 1" in done.err


def test_the_plan_counts_them_and_a_sub_model_does_not(run: Path) -> None:
    sizes = {}
    for norms in ("shared", "by-width"):
        done = command("info", "--plan", *TINY, f"--set=model.norms={norms}", "--json")
        assert done.code == 0, done.err
        sizes[norms] = json.loads(done.out)["params"]
    stored = load_file(run / "weights.safetensors")
    beside = sum(tensor.numel() for name, tensor in stored.items() if "@" in name)
    assert sizes["by-width"] - sizes["shared"] == beside > 0
    rows = json.loads((run / "frontier.json").read_text())["submodels"]
    assert max(row["params"] for row in rows) == sizes["shared"]
    done = command("info", run, "--plan", "--width=0.5")
    assert "norm.weight@w0.5[:4]" in done.out, done
    assert "norm.weight@" not in command("info", run, "--plan").out


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_training_that_stops_resumes_to_the_same_bytes(optimizer: str, tmp_path: Path) -> None:
    """Also while widths open, whose norms have no state before."""
    check_resumes(opening(f"train.optimizer={optimizer}", "model.norms=by-width"), tmp_path)


def test_they_start_from_pretrained_weights(run: Path, tmp_path: Path) -> None:
    """A run gives its largest sub-model, whose norms every width of the next begins with."""
    settings = ("--set=train.lr=1e-12", "--set=model.init=stock")
    begun = tmp_path / "begun"
    done = command(*TRAIN, *settings, f"--set=model.pretrained={run}", f"--out={begun}")
    assert (done.code, done.err) == (0, "")
    first, then = (load_file(each / "weights.safetensors") for each in (run, begun))
    torch.testing.assert_close(then["norm.weight@w0.5"], first["norm.weight"][:4])
    assert not torch.allclose(first["norm.weight@w0.5"], first["norm.weight"][:4])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--preset=pydoc-llama", "--set=space={depth=[2,4]}"], "needs an axis that scales norms"),
        (
            ["--preset=pydoc-llama", "--set=space={ffn=[0.5,1.0],depth=[2,4]}"],
            "no axis of the space scales",
        ),
        (["--preset=digits-resnet"], "'shared' or 'by-width'"),
    ],
)
def test_refused_where_nothing_would_differ(
    settings: list[str], message: str, tmp_path: Path
) -> None:
    norms = "each" if "digits" in settings[0] else "by-width"
    done = command("train", *settings, f"--set=model.norms={norms}", f"--out={tmp_path / 'run'}")
    assert done.code == 2
    assert "model.norms" in done.err and message in done.err
    assert not (tmp_path / "run").exists()


def test_a_file_without_them_does_not_belong_to_the_run(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    for file in run.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    stored = load_file(run / "weights.safetensors")
    lacking = {name: tensor for name, tensor in stored.items() if name != "norm.weight@w0.5"}
    save_file(lacking, copy / "weights.safetensors")
    done = command("extract", copy, "--width=0.5", f"--out={tmp_path / 'out'}")
    assert done.code == 2 and "weights.safetensors" in done.err
