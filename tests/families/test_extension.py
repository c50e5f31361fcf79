"""A family, and an architecture of transformers, of another package: one file each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from sortednet_cli.engine.generation import Decoder
from sortednet_cli.errors import RequestError
from sortednet_cli.families.transformers.roles import DECODER_ROLES, roles_of
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
"""Helium: LLaMA with other rotations. As an architecture of this package would be declared."""

from sortednet_cli.families.transformers.architecture import decoder

HELIUM = decoder("helium", "HeliumForCausalLM", axes=("width", "depth"))
COHERE = decoder("cohere", "CohereForCausalLM")  # whose class scales its logits
'''
POINTS = {
    "sortednet.families": {
        "mlp": "toy_family:FACTS",
        "misnamed": "toy_family:WRONG",
        "helium": "toy_helium:HELIUM",
        "cohere": "toy_helium:COHERE",
        "llama": "toy_helium:HELIUM",
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
        with pytest.raises(RequestError, match=r"'misnamed' .* calls itself 'another'"):
            family_facts("misnamed")


COHERE = {
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "pad_token_id": 0,
}
SIZES = "hidden_size=32,num_hidden_layers=2,num_attention_heads=4,intermediate_size=64"
SIZES += ",num_key_value_heads=4,head_dim=8"
PICO = (
    *("--preset=pydoc-llama", "--set=model.config={}", "--set=train.updates=2", "--quiet"),
    *(f"--set=model.config.{size}" for size in SIZES.split(",")),
    *("--set=space.depth=[1,2]", "--set=train.batch_size=2", "--set=data.max_length=32"),
)


def test_an_architecture_of_another_package_is_a_declaration(work: Path) -> None:
    with installed(work, {"toy_helium.py": ARCHITECTURE}, POINTS) as files:
        assert files == ["toy_helium.py"]
        done = command("train", *PICO, "--set=model.family=helium", "--out=run")
        assert (done.code, done.err) == (0, ""), done
        assert command("extract", "run", "--depth=1", "--out=cut").code == 0
        model = transformers.AutoModelForCausalLM.from_pretrained("cut", trust_remote_code=False)
        assert type(model).__name__ == "HeliumForCausalLM"
        assert model(torch.tensor([[1, 2]])).logits.shape[1] == 2
        done = command("generate", "run", "--prompt=a", "--max-new-tokens=3", "--quiet")
        assert done.code == 0, done
    for words in (["info", "run"], ["eval", "run"], ["extract", "cut"]):
        file = "cut/sortednet.json" if "cut" in words else "run/run.json"
        said = f"{file}: unknown family 'helium'; the families are preact_resnet, "
        refused(command(*words, "--quiet"), 2, said, "; install the package that adds it")


def test_a_tail_that_is_not_the_class_s_own_is_refused(work: Path) -> None:
    with installed(work, {"toy_helium.py": ARCHITECTURE}, POINTS):
        done = command("train", *PICO, "--set=model.family=cohere", "--out=run")
        refused(done, 2, "sortednet.families: 'cohere' declares a tail, or layers, whose logits")
        with pytest.raises(RequestError, match=r"'cohere' declares an embedding, a tail or layers"):
            Decoder(transformers.CohereForCausalLM(transformers.CohereConfig(**COHERE)))


def test_norms_of_queries_are_not_taken_for_hidden_units() -> None:
    for name in ("model.layers.0.self_attn.q_norm.weight", "model.layers.0.q_layernorm.weight"):
        with pytest.raises(RequestError, match="the roles of the dimensions of"):
            roles_of(name, DECODER_ROLES)
    for name in ("model.norm.weight", "model.layers.0.post_attention_layernorm.weight"):
        assert roles_of(name, DECODER_ROLES) == ("hidden",)


def test_an_own_family_is_not_replaced(work: Path) -> None:
    with installed(work, {"toy_helium.py": ARCHITECTURE}, POINTS):
        done = command("train", *PICO, "--out=run")
    assert (done.code, done.err) == (
        0,
        "sortednet.families: 'llama' (toy_helium:HELIUM) is not used: sortednet-cli has its own"
        " of that name\n",
    )
