"""Your own model, with the very lines of the tutorial."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from safetensors.torch import load_file

from sortednet_cli import load_run
from sortednet_cli.space import SubModel
from tests.commands import WITHOUT_THIS_PACKAGE, command, python, refused, shell

TUTORIAL = (Path(__file__).parents[2] / "docs" / "tutorials" / "your-own-model.md").read_text(
    encoding="utf-8"
)
(MYNETS,) = re.findall(r"```python\n(.*?)```", TUTORIAL, re.DOTALL)
(SPEC,) = re.findall(r"```toml\n(.*?)```", TUTORIAL, re.DOTALL)


def test_the_documented_model_trains_and_its_card_loads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mynets.py").write_text(MYNETS)
    Path("mine.toml").write_text(SPEC)
    assert command("train", "--config", "mine.toml", "--quiet").code == 0
    assert "of 9 sub-models are on the frontier" in command("frontier").out
    denied = command("frontier", "--cost=size")
    refused(denied, 2, "--allow-factory mynets:make")
    denied = shell("sortednet eval --all")
    assert denied.code == 2
    assert "--allow-factory mynets:make" in denied.err
    done = shell(
        "sortednet eval --all && sortednet extract --width 0.5 --depth 4 --out artifact",
        SORTEDNET_ALLOW_FACTORY="mynets:make",
    )
    assert done.code == 0, done.err
    assert "9 sub-models" in done.out
    (card,) = re.findall(
        r"```python\n(.*?)```", Path("artifact/README.md").read_text(), flags=re.DOTALL
    )
    check = """
check = load_file("check.safetensors")
assert torch.equal(model(check["inputs"]), check["logits"])
"""
    own = f"import sys; sys.path.append({str(tmp_path)!r})\n"
    python(own + WITHOUT_THIS_PACKAGE + card + check, tmp_path / "artifact")
    assert load_file("artifact/model.safetensors")["stem.1.weight"].shape == (32, 64)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.blocks.paths=['bdy']", "the model has no module 'bdy"),
        ("space.depth=[2, 7]", "depths 1 to 6"),
        ("model.factory='mynet:make'", "start the command in the folder that holds mynet, or"),
        ("model.factory='mynets:mke'", "cannot import 'mynets:mke': module 'mynets' has no"),
        (
            "model.axes.width.scales=['hiden']",
            "axes.width.scales: 'hiden' is no key of model.config (did you mean hidden?); its keys",
        ),
        ("model.axes.depth.sets='layer'", "axes.depth.sets: 'layer' is no key of model.config"),
        ("model.blocks.before=1", "no module 'body.2'"),
        (
            "model.config={layers = 6, hidden = 64}",
            "missing 1 required positional argument: 'num_classes'",
        ),
    ],
)
def test_a_wrong_declaration_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("mynets.py").write_text("print('noise')\n" + MYNETS)
    Path("mine.toml").write_text(SPEC)
    done = command("train", "--config", "mine.toml", "--set", override)
    refused(done, 2, message)
    assert not Path("runs").exists()


STAGES = """
from torch import nn


def make(stages, num_classes=10):
    blocks = [nn.Sequential(*(nn.Linear(64, 64) for _ in range(count))) for count in stages]
    blocks[1].insert(0, nn.ReLU())
    blocks[1].append(nn.LayerNorm(64))
    return nn.Sequential(nn.Flatten(), *blocks, nn.Linear(64, num_classes))
"""
STAGED = """
[model]
family = "custom"
factory = "staged:make"
depth_order = "balanced"
config = { stages = [2, 3] }
blocks = { paths = ["1", "2"], before = [0, 1], after = [0, 1] }
axes = { depth = { stages = "stages" } }
[space]
depth = [3, 5]
[train]
updates = 2
[data]
source = "digits"
augment = "none"
"""


@pytest.fixture
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose second container alone holds modules that are not blocks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SORTEDNET_ALLOW_FACTORY", "staged:make")
    Path("staged.py").write_text(STAGES)
    Path("staged.toml").write_text(STAGED)
    return tmp_path


def test_containers_that_hold_different_numbers_of_other_modules(staged: Path) -> None:
    assert command("train", "--config", "staged.toml", "--quiet").code == 0
    plan = load_run("runs/staged").plan(SubModel.of({"depth": 3}))
    sources = {name: piece.source for name, piece in plan.slices.items() if "weight" in name}
    assert sources == {
        "1.0.weight": "1.0.weight",
        "2.1.weight": "2.1.weight",
        "2.2.weight": "2.2.weight",
        "2.3.weight": "2.4.weight",  # the norm after the blocks, of which one is gone
        "3.weight": "3.weight",
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("={paths=['1']}", "blocks.paths names 1 containers for 2 stages"),
        (".before=1", "no module '1.1': this container holds 1 module; `before` and `after` hold"),
        (".before=0", "'2.3' is no block of '2': count the modules that are none"),
        (".before=[1]", "model.blocks: before lists 1, paths lists 2"),
        (".after='none'", "model.blocks.after: a whole number from 0 up, or a list of them"),
        (".after=[0, -1]", "model.blocks.after: a whole number from 0 up, or a list of them"),
    ],
)
def test_counts_that_do_not_fit_the_containers(staged: Path, override: str, message: str) -> None:
    done = command("train", "--config", "staged.toml", "--set", f"model.blocks{override}")
    refused(done, 2, message)
    assert not Path("runs").exists()
