"""A family, and an architecture of transformers, of another package: one file each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sortednet_cli.errors import RequestError
from sortednet_cli.spec.families import family_facts, family_names
from tests.commands import command, refused
from tests.extension import installed

FAMILY = '''
"""The family `mlp`: two layers over the pixels, the hidden one as wide as asked."""

from torch import nn

from sortednet_cli.families.base import Family
from sortednet_cli.families.root import scaled
from sortednet_cli.spec.families import FamilyFacts

FACTS = FamilyFacts(name="mlp", implementation="toy_family:Mlp", axes=("width",))
WRONG = FamilyFacts(name="another", implementation="toy_family:Mlp")


class Mlp(Family):
    loader = "toy_family.build"
    card = "from toy_family import build\\n"

    def construct(self, config):
        return build(**config)

    def shrink(self, submodel):
        width = float(submodel.axes.get("width", 1))
        return {**self.root.config, "hidden": scaled(self.root.config["hidden"], width)}

    def module_map(self, submodel):
        return {"1": "1", "3": "3"}


def build(hidden, num_classes):
    layers = nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, num_classes)
    return nn.Sequential(nn.Flatten(), *layers)
'''

ARCHITECTURE = '''
"""Granite: a LLaMA with multipliers. As an architecture of this package would be declared."""

from sortednet_cli.families.transformers.architecture import decoder

GRANITE = decoder("granite", "GraniteForCausalLM", has_head_size=False, axes=("width", "depth"))
'''
POINTS = {
    "sortednet.families": {
        "mlp": "toy_family:FACTS",
        "misnamed": "toy_family:WRONG",
        "granite": "toy_granite:GRANITE",
    }
}
SPEC = """
name = "toy"
task = "classification"
[model]
family = "mlp"
config = { hidden = 32 }
[space]
width = [0.25, 0.5, 1.0]
[data]
source = "digits"
[train]
updates = 2
batch_size = 32
"""


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_family_of_another_package_trains_plans_scores_and_is_cut(work: Path) -> None:
    Path("spec.toml").write_text(SPEC)
    refused(command("train", "--config=spec.toml"), 2, "unknown family 'mlp'")
    with installed(work, {"toy_family.py": FAMILY}, POINTS) as files:
        assert files == ["toy_family.py"] and "mlp" in family_names()
        assert command("train", "--config=spec.toml", "--quiet", "--out=run").code == 0
        planned = json.loads(command("info", "--plan", "--config=spec.toml", "--json").out)
        assert planned["params"] == 64 * 32 + 32 + 32 * 10 + 10
        scored = json.loads(command("eval", "run", "--all", "--json").out)
        macs = [row["macs"] for row in scored["submodels"]]
        assert macs == [64 * n + n * 10 for n in (8, 16, 32)]
        assert command("extract", "run", "--width=0.25", "--out=cut").code == 0
        config = json.loads(Path("cut/config.json").read_text())
        assert config == {"hidden": 8, "num_classes": 10}
        with pytest.raises(RequestError, match="declares no family named 'misnamed'"):
            family_facts("misnamed")


def test_an_architecture_of_another_package_is_a_declaration(work: Path) -> None:
    sizes = "hidden_size=32,num_hidden_layers=2,num_attention_heads=4,intermediate_size=64"
    config = ["--set=model.family=granite", "--set=model.config={}", "--set=train.updates=2"]
    config += [f"--set=model.config.{size}" for size in sizes.split(",")]
    config += ["--set=space.depth=[1,2]", "--set=train.batch_size=2", "--set=data.max_length=32"]
    with installed(work, {"toy_granite.py": ARCHITECTURE}, POINTS) as files:
        assert files == ["toy_granite.py"]
        done = command("train", "--preset=pydoc-llama", *config, "--quiet", "--out=run")
        assert done.code == 0, done
        assert command("extract", "run", "--depth=1", "--out=cut").code == 0
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained("cut", trust_remote_code=False)
        assert type(model).__name__ == "GraniteForCausalLM"
        assert model(torch.tensor([[1, 2]])).logits.shape[1] == 2
