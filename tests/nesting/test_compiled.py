"""Compiled training: the same gradients, and one compilation for each kind of block."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.utils import counters

from sortednet_cli.engine.loaded import load_run
from sortednet_cli.errors import WorkError
from sortednet_cli.machine.compiler import compiling
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.space import SubModel
from tests.commands import TINY, command, refused
from tests.fixtures.make import SETTINGS
from tests.pico import PICOS, Pico

pytestmark = [
    pytest.mark.filterwarnings("ignore:grad and param do not obey"),
    # torch's own parts, met while it compiles
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

KINDS = {"preact_basic": 4, "mobilenet_v2": 7, "llama": 1, "bert_classifier": 1, "custom": None}
"""Parts of the deepest sub-model that differ in code or shape; a custom model compiles whole."""


def _gradients(pico: Pico, network: NestedNetwork, submodel: SubModel) -> dict[str, torch.Tensor]:
    network.zero_gradients()
    shared = network.shared_pass([submodel], training=True)
    with compiling("train.compile", "train without it"):
        (states,) = shared.states(pico.inputs())
    shared.logits(0, states).square().mean().backward()
    return {name: gradient.clone() for name, gradient in network.gradients.items()}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.usefixtures("traced")
def test_compiled_gradients_are_the_same_and_depths_share_the_compilation(name: str) -> None:
    pico = PICOS[name]
    plain, compiled = pico.network(), pico.network()
    compiled.compiles = True
    space = pico.search_space
    ends = (space.smallest, space.largest)
    corners = {axis: {end.axes[axis] for end in ends} for axis in dict(space.axes)}
    chosen = [s for s in space.submodels if all(v in corners[a] for a, v in s.axes.items())]
    for submodel in chosen:
        expected = _gradients(pico, plain, submodel)
        found = _gradients(pico, compiled, submodel)
        for key, gradient in expected.items():
            torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-5, msg=key)
    kinds = KINDS[name]
    most = len(chosen) if kinds is None else kinds * len(ends)
    assert 0 < counters["stats"]["unique_graphs"] <= most


@pytest.mark.usefixtures("traced")
def test_evaluation_runs_the_stock_module() -> None:
    pico = PICOS["preact_basic"]
    plain, compiled = pico.network(), pico.network()
    compiled.compiles = True
    for submodel in pico.spread():
        with torch.no_grad():
            expected = pico.run(plain.at(submodel).eval())
            assert torch.equal(pico.run(compiled.at(submodel).eval()), expected)
    assert counters["stats"]["unique_graphs"] == 0


@pytest.mark.usefixtures("work")
def test_a_compiled_training_ends_close_to_a_plain_one() -> None:
    """With machine code made by the real compiler, of a sub-model that is cut in all ways."""
    settings = (*SETTINGS, "--set=train.rule=single", "--set=train.submodel=w0.5-d1")
    for name, value in (("plain", "false"), ("compiled", "true")):
        done = command("train", *settings, f"--set=train.compile={value}", f"--out={name}")
        assert done.code == 0, done
    plain, compiled = (load_run(name).network().weights for name in ("plain", "compiled"))
    for key, weight in plain.items():
        torch.testing.assert_close(compiled[key], weight, rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.usefixtures("work")
def test_a_compiler_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    torch._dynamo.reset()
    with torch._inductor.config.patch(
        {"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}
    ):
        done = command("train", *TINY, "--set=train.compile=true", "--out=run")
    refused(done, 1, "train.compile", "train without it")


def test_only_the_compiler_is_blamed() -> None:
    told = compiling("train.compile", "train without it")
    with pytest.raises(RuntimeError, match="shapes"), told:
        raise RuntimeError("shapes do not fit")
    told = compiling("train.compile", "train without it")
    with pytest.raises(WorkError, match=r"train\.compile: broken; train without it"), told:
        raise torch._dynamo.exc.TorchDynamoException("broken")
