"""timm's networks: cut by their constructors' arguments, and loaded by timm alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from sortednet_cli.errors import RequestError
from sortednet_cli.families import open_family
from sortednet_cli.families.fused import fused_as
from sortednet_cli.families.root import Root
from sortednet_cli.nesting import build_skeleton, check_fused, plan_from_root
from sortednet_cli.nesting.skeleton import shapes_of
from sortednet_cli.space import SearchSpace, SubModel
from tests.commands import WITHOUT_THIS_PACKAGE, command, python, refused
from tests.pico import PICOS

VIT = """
name = "vit"
[model]
family = "timm"
name = "vit_tiny_patch16_224"
[model.config]
patch_size = 2
embed_dim = 16
num_heads = 4
depth = 2
[space]
width = [0.5, 1.0]
depth = [1, 2]
[data]
source = "digits"
[train]
updates = 2
"""

TIMM = [name for name in PICOS if name.startswith("timm")]


def test_an_artifact_is_a_folder_that_timm_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("vit.toml").write_text(VIT)
    assert command("train", "--config=vit.toml", "--quiet").code == 0
    done = command("extract", "--width=0.5", "--depth=1", "--out=artifact")
    assert done.code == 0, done.err
    (card,) = re.findall(
        r"```python\n(.*?)```", Path("artifact/README.md").read_text(), flags=re.DOTALL
    )
    check = """
import torch
from safetensors.torch import load_file
check = load_file("check.safetensors")
assert torch.equal(model(check["inputs"]), check["logits"])
assert (len(model.blocks), model.embed_dim, model.num_classes) == (1, 8, 10)
assert model.pretrained_cfg["input_size"] == (1, 8, 8)
assert model.pretrained_cfg["label_names"] == list("0123456789")
"""
    python(WITHOUT_THIS_PACKAGE + card + check, tmp_path / "artifact")
    assert command("eval", "artifact").code == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.name=vit_tinny_patch16_224", "(did you mean vit_tiny_patch16_224?)"),
        ("model.name=efficientnet_b0", "timm's EfficientNet scales its width or depth; it takes"),
        ("model.config.embed_dims=8", "VisionTransformer has no such argument (did you mean"),
        ("model.config.checkpoint_path=x.pth", "VisionTransformer has no such argument"),
        ("model.config.num_classes=3", "it follows from the data"),
        ("space.width=[0.3, 1.0]", "makes num_heads 1.2 of 4, which must be a whole number: legal"),
        ("model.name=regnetx_002", "no such argument"),
    ],
)
def test_what_cannot_be_cut_is_refused(
    override: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("vit.toml").write_text(VIT)
    refused(command("train", "--config=vit.toml", f"--set={override}", "--quiet"), 2, message)
    assert not Path("runs").exists()


def test_a_regnet_has_no_depth_axis() -> None:
    family = PICOS["timm_regnet"].family()
    with pytest.raises(RequestError, match="has no depth axis: its constructor spreads blocks"):
        family.shrink(SubModel.of({"depth": 3}))


@pytest.mark.parametrize("name", TIMM)
def test_declared_tensors_exist_and_no_others_look_fused(name: str) -> None:
    family = PICOS[name].family()
    check_fused(family, PICOS[name].search_space)
    names = shapes_of(build_skeleton(family, family.root.config))
    for pattern, fused in family.fused.items():
        assert any(fused_as(tensor, {pattern: fused}) for tensor in names), pattern


def test_what_a_variant_of_a_class_has_instead_is_told_by_its_name() -> None:
    config = {
        "architecture": "vit_base_patch16_xp_224",  # blocks with one projection of all parts
        "num_classes": 5,
        "model_args": {"depth": 1},
    }
    family = open_family(Root("timm", config, "late-first"))
    with pytest.raises(RequestError, match=r"^blocks.0.in_proj.weight .* looks fused"):
        check_fused(family, SearchSpace((("width", (0.5, 1.0)),)))


def test_first_heads_are_the_first_heads_of_the_root() -> None:
    family = PICOS["timm_vit"].family()
    plan = plan_from_root(family, SubModel.of({"width": 0.5, "depth": 3}))
    assert str(plan.slices["blocks.0.attn.qkv.weight"]) == (
        "blocks.0.attn.qkv.weight[:16|32:48|64:80, :16]"
    )


def test_a_strangers_run_can_name_no_files() -> None:
    config = {
        "architecture": "resnet18",
        "num_classes": 2,
        "model_args": {"checkpoint_path": "/etc/passwd"},
    }
    with pytest.raises(RequestError, match="no such argument"):
        open_family(Root("timm", config, "late-first"))


def test_a_layer_that_only_a_narrow_network_has_is_told() -> None:
    family = open_family(
        Root("timm", {"architecture": "resnet18", "num_classes": 5, "model_args": {}}, "late-first")
    )
    with pytest.raises(RequestError, match=r"layer1.0.downsample.0.weight, which the full network"):
        plan_from_root(family, SubModel.of({"width": 0.5}))


@pytest.mark.parametrize(
    "name", ["deit_tiny_patch16_224", "convnext_atto", "resnet18d", "resnet50", "regnety_002"]
)
def test_real_names_have_plans(name: str) -> None:
    with torch.device("meta"):
        facts = {"num_classes": 5, "model_args": {}}
        family = open_family(Root("timm", {"architecture": name, **facts}, "late-first"))
    width = 1 / 3 if "tiny" in name or "regnet" in name else 0.5
    space = SearchSpace((("width", (width, 1.0)),))
    check_fused(family, space)
    plan = plan_from_root(family, SubModel.of({"width": width}))
    assert len(plan.slices) > 50
