"""`sortednet init`: what it writes trains as it stands, and what it refuses says how to go on."""

from __future__ import annotations

import json
import shutil
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from sortednet_cli.data.text.tokenizer import train_tokenizer
from sortednet_cli.engine.drafting import memory
from sortednet_cli.spec import load_spec_file
from tests.commands import Done, command, listing, refused
from tests.data.made import tree_files, write_tree
from tests.storage.test_gguf import write as write_gguf

ROWS = [(f"a {mood} film about number {n}", mood) for n in range(40) for mood in ("good", "bad")]
PHOTOS = "--data=photos"

NETS = '''
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(width), nn.Linear(width, width)
        self.heads = heads

    def forward(self, x):
        return x + self.mlp(self.norm(x).unflatten(-1, (self.heads, -1)).flatten(-2))

class Net(nn.Module):
    """A stem in the first container, numbers of heads, and a kernel whose size is no width."""

    def __init__(self, width=16, depths=(3, 2), num_heads=4, kernel=9, num_classes=10, in_chans=3):
        super().__init__()
        self.stem = nn.Conv2d(in_chans, width, kernel, padding=kernel // 2)
        one, two = ([Block(width, num_heads) for _ in range(depth)] for depth in depths)
        self.one, self.two = nn.Sequential(nn.Identity(), *one), nn.ModuleList(two)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        x = self.one(self.stem(x).mean((2, 3)))
        for block in self.two:
            x = block(x)
        return self.head(x)

class Fused(nn.Module):
    def __init__(self, width=16, layers=3, num_classes=10):
        super().__init__()
        self.stem = nn.Linear(192, width)
        self.body = nn.Sequential(*[Gated(width) for _ in range(layers)])
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.head(self.body(self.stem(x.flatten(1))))

class Gated(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.both, self.out = nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, x):
        gate, value = self.both(x).chunk(2, -1)
        return x + self.out(gate.sigmoid() * value)

def needs(size, num_classes):
    return Net(size, num_classes=num_classes)

def number(width=8):
    return width

def fixed(num_classes=10, kernel=9):
    return Net(8, (1, 1), kernel=kernel, num_classes=num_classes)
'''


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, data and factories, made once."""
    import timm
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel, ViTConfig, ViTForImageClassification

    root = tmp_path_factory.mktemp("stored")
    torch.manual_seed(0)
    texts = [text for text, _ in ROWS]
    tokenizer = train_tokenizer(texts, "classification", vocab_size=300, max_length=32)
    sizes: dict[str, Any] = {
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "intermediate_size": 48,
    }
    bert = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=40, **sizes)
    BertModel(bert).save_pretrained(root / "bert")
    tokenizer.save_pretrained(root / "bert")
    vit = ViTConfig(image_size=16, patch_size=8, **sizes)
    ViTForImageClassification(vit).save_pretrained(root / "vit")
    small = {"img_size": 16, "patch_size": 8, "depth": 3}
    config = {"architecture": "test_vit", "num_classes": 1000, "model_args": small}
    config["pretrained_cfg"] = {"input_size": [3, 16, 16]}
    (root / "timm-vit").mkdir()
    (root / "timm-vit/config.json").write_text(json.dumps(config))
    made = timm.create_model("test_vit", **small)
    save_file(made.state_dict(), root / "timm-vit/model.safetensors")
    write_gguf(root / "tiny.gguf")
    lines = [f"{text}\t{mood}" for text, mood in ROWS]
    (root / "moods.tsv").write_text("\n".join(["Review\tmood", *lines]) + "\n")
    (root / "plain.txt").write_text("the quick brown fox jumps over a lazy dog\n" * 200)
    rows = [json.dumps({"question": t, "answer": m}) for t, m in ROWS]
    (root / "asked.jsonl").write_text("\n".join(rows))
    write_tree(root / "photos", tree_files({"train": 12, "test": 2}))
    (root / "nets.py").write_text(NETS)
    return root


@pytest.fixture
def place(stored: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that holds them all, and a finished run."""
    for each in stored.iterdir():
        (home / each.name).symlink_to(each)
    monkeypatch.syspath_prepend(str(stored))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return home


def drafted(*words: str) -> dict[str, Any]:
    """Draft a spec, train it for one update, and return it."""
    done = command("init", *words)
    assert (done.code, done.out) == (0, "spec.toml\n"), done
    trained = command("train", "--config=spec.toml", "--set=train.updates=1", "--quiet", "--out=r")
    assert (trained.code, trained.out) == (0, "r\n"), trained
    return tomllib.loads(Path("spec.toml").read_text())


@pytest.mark.parametrize(
    ("words", "task", "space", "model"),
    [
        (
            ["bert", "--data=moods.tsv"],
            "classification",
            {"width": [1 / 3, 1 / 2, 2 / 3, 1], "depth": [1, 2, 3]},
            {"family": "bert", "reorder": "importance"},
        ),
        (
            ["tiny.gguf", "--data=plain.txt"],
            "causal-lm",
            {"width": [0.5, 1], "depth": [1, 2, 3]},
            {"family": "llama", "reorder": "importance"},
        ),
        (
            ["vit", PHOTOS],
            "classification",
            {"width": [1 / 3, 1 / 2, 2 / 3, 1], "depth": [1, 2, 3]},
            {"family": "vit"},
        ),
        (
            ["timm-vit", PHOTOS],
            "classification",
            {"width": [0.5, 1], "depth": [1, 2, 3]},
            {"family": "timm", "name": "test_vit"},
        ),
        (
            ["mobilenet_v2", PHOTOS],
            "classification",
            {"width": [0.25, 0.5, 0.75, 1], "depth": [7, 10, 14, 17]},
            {"family": "mobilenet_v2", "init": "nested-identity"},
        ),
        (
            ["nets:Net", PHOTOS, "--allow-factory=nets:Net"],
            "classification",
            {"width": [0.25, 0.5, 0.75, 1], "depth": [2, 3, 4, 5]},
            {
                "axes": {
                    "width": {"scales": ["width", "num_heads"]},
                    "depth": {"stages": "depths"},
                },
                "blocks": {"paths": ["one", "two"], "before": [1, 0]},
            },
        ),
    ],
    ids=["bert", "gguf", "vit", "timm", "torchvision", "factory"],
)
def test_a_spec_trains_as_it_stands(
    place: Path, words: list[str], task: str, space: dict[str, list[float]], model: dict[str, Any]
) -> None:
    spec = drafted(*words)
    assert spec["task"] == task
    assert spec["space"] == {axis: pytest.approx(values) for axis, values in space.items()}
    assert {key: spec["model"][key] for key in model} == model
    for line in Path("spec.toml").read_text().splitlines():
        assert len(line) < 250


def test_columns_of_texts_are_told_apart(place: Path) -> None:
    assert command("init", "bert", "--data=moods.tsv").code == 0
    data = tomllib.loads(Path("spec.toml").read_text())["data"]
    assert (data["text"], data["label"]) == ("Review", "mood")
    assert data["max_length"] == 16  # what its longest text takes, rounded up
    done = command("init", "tiny.gguf", "--data=asked.jsonl", "--out=answers.toml", "--quiet")
    assert done.code == 0, done
    assert load_spec_file(Path("answers.toml")).task == "answers"


def test_names_of_timm_and_its_weights(place: Path) -> None:
    done = command("init", "test_vit", PHOTOS)
    assert done.code == 0, done
    text = Path("spec.toml").read_text()
    assert '# pretrained = "timm/test_vit.r160_in1k"' in text
    spec = tomllib.loads(text)
    assert spec["data"]["image_size"] == 160
    assert "w1-d6: " in done.err and "updates: --measure estimates the time" in done.err


def test_one_document_with_the_time_of_an_update(place: Path) -> None:
    done = command("init", "mobilenet_v2", PHOTOS, "--json", "--measure", "--quiet")
    assert done.code == 0, done
    told = json.loads(done.out)
    assert told["path"] == "spec.toml" and told["task"] == "classification"
    small, large = told["submodels"]
    assert small["params"] < large["params"] and large["flops"] == 2 * large["macs"]
    assert told["update_seconds"] > 0
    assert told["memory_bytes"] > 4 * 3 * large["params"]  # weights, gradient and momentum
    assert {path.name for path in place.iterdir()} >= {"spec.toml"}
    assert not list(place.glob("runs/mobilenet*"))


@pytest.mark.parametrize("megabytes", [70, 20])
def test_micro_batches_fit_the_memory(
    place: Path, monkeypatch: pytest.MonkeyPatch, megabytes: int
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: megabytes * 10**6)
    done = command("init", "mobilenet_v2", PHOTOS, "--json")
    told = json.loads(done.out)
    assert told["batch_size"] * told["accumulate"] == 32  # all that there are
    assert told["accumulate"] > 1
    train = load_spec_file(Path("spec.toml")).train
    assert (train.batch_size, train.accumulate) == (told["batch_size"], told["accumulate"])
    assert told["batch_size"] == 2 or told["memory_bytes"] < 0.7e6 * megabytes
    assert ("it does not fit" in done.err) == (megabytes == 20)


def test_a_tensor_that_looks_fused_keeps_its_width(place: Path) -> None:
    done = command("init", "nets:Fused", PHOTOS, "--allow-factory=nets:Fused")
    assert done.code == 0, done
    assert "left out of the search space: width: body.0.both.weight" in done.err
    assert tomllib.loads(Path("spec.toml").read_text())["space"] == {"depth": [1, 2, 3]}


def test_a_run_and_an_artifact_of_a_factory(place: Path) -> None:
    allow = "--allow-factory=nets:Net"
    first = drafted("nets:Net", PHOTOS, allow)
    refused(command("init", "r", PHOTOS, "--force"), 2, allow[:15], "nets:Net")
    assert command("init", "r", PHOTOS, "--force", allow).code == 0
    again = load_spec_file(Path("spec.toml")).model
    assert again.pretrained == str(place / "r") and again.config == first["model"]["config"]
    cut = ("extract", "r", "--width=0.5", "--depth=4", "--out=cut", "--quiet", allow)
    assert command(*cut).code == 0
    refused(command("init", "cut", PHOTOS, "--force"), 2, allow[:15], "nets:Net")
    shutil.rmtree("r")
    spec = drafted("cut", PHOTOS, "--force", allow)
    assert spec["model"]["config"]["width"] == 8
    assert spec["model"]["config"]["depths"] == [3, 1]
    assert spec["model"]["pretrained"] == str(place / "cut")


REFUSED = {
    "nothing": (["./nothing"], ["there is no file or folder ./nothing"]),
    "near": (["vit_tinny_patch16_224"], ["nearest names", "vit_tiny_patch16_224"]),
    "family": (["llama"], ["llama is a family, not a model", "sortednet presets"]),
    "no-argument": (["efficientnet_b0", PHOTOS], ["cannot be cut", "block_args"]),
    "tag": (["resnet18.a1", PHOTOS], ["timm has no weights resnet18.a1: it has resnet18.a1_in1k"]),
    "code": (["nets.py"], ["nets.py is code", "as nets:NAME"]),
    "no-network": (
        ["nets:number", PHOTOS, "--allow-factory=nets:number"],
        ["error: nets:number: returned 'int' instead of an nn.Module"],
    ),
    "weights": (["timm-vit/model.safetensors"], ["does not say what it is", "name their network"]),
    "unnamed": (["photos"], ["does not say what it is", "no config.json"]),
    "not-ours": (["falcon"], ["model_type 'falcon' cannot be cut", "llama", "give a factory"]),
    "kind": (["kind", PHOTOS], ["config.json: model_type must be a text"]),
    "arguments": (["arguments", PHOTOS], ["config.json: model_args must be a table"]),
    "no-type": (["typeless"], ["neither a model_type", "give a factory"]),
    "torchvision": (["torchvision:ResNet51_Weights.X"], ["did you mean ResNet50_Weights?"]),
    "a-model": (["torchvision:resnet50"], ["weights of resnet50 are ResNet50_Weights.IMAGENET1K_"]),
    "too-small": (["torchvision:ResNet18_Weights.DEFAULT"], ["resnet18 is none of", "resnet50"]),
    "not-allowed": (["nets:Net"], ["--allow-factory nets:Net"]),
    "needs": (
        ["nets:needs", PHOTOS, "--allow-factory=nets:needs"],
        ["needs the arguments size", "[model.axes]"],
    ),
    "fixed": (
        ["nets:fixed", PHOTOS, "--allow-factory=nets:fixed"],
        ["no argument makes its network narrower", "num_classes=10, kernel=9", "[model.axes]"],
    ),
    "no-module": (
        ["nowhere:Net", PHOTOS, "--allow-factory=nowhere:Net"],
        ["cannot import 'nowhere:Net'"],
    ),
    "texts": (["mobilenet_v2", "--data=moods.tsv"], ["takes images", "moods.tsv holds texts"]),
    "images": (["bert", PHOTOS], ["takes texts"]),
    "no-image": (["mobilenet_v2", "--data=notes.tar"], ["notes.tar holds no image"]),
    "unlabelled": (["bert", "--data=asked.csv"], ["the columns one, two", "text and label"]),
    "no-data": (["timm-vit"], ["give --data"]),
    "nowhere": (["bert", "--data=nowhere"], ["--data nowhere: there is no such file"]),
    "folder": (["bert", "--out=photos"], ["--out photos"]),
    "taken": (["bert", "--out=taken.toml"], ["taken.toml exists", "--force"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(place: Path, name: str) -> None:
    (place / "taken.toml").write_text("mine")
    with tarfile.open(place / "notes.tar", "w", dereference=True) as notes:
        notes.add(place / "plain.txt", "notes.txt")
    (place / "asked.csv").write_text("one,two\n" + "".join(f"{n},{n + 1}\n" for n in range(40)))
    configs: dict[str, dict[str, Any]] = {
        "falcon": {"model_type": "falcon"},
        "typeless": {},
        "kind": {"model_type": ["bert"]},
        "arguments": {"architecture": "test_vit", "model_args": [3]},
    }
    for folder, config in configs.items():
        (place / folder).mkdir()
        (place / folder / "config.json").write_text(json.dumps(config))
        (place / folder / "model.safetensors").touch()
    words, fragments = REFUSED[name]
    before = listing(place)
    refused(command("init", *words, "--quiet"), 2, *fragments)
    assert listing(place) == before


def test_the_comment_holds_commands_for_a_shell(place: Path) -> None:
    (place / "my nets").mkdir()
    done = command("init", "bert", "--data=moods.tsv", "--out=my nets/b.toml", "--quiet")
    assert done.code == 0, done
    title = (place / "my nets" / "b.toml").read_text()
    assert "Written by: sortednet init bert --data moods.tsv\n" in title
    assert "Train it with: sortednet train --config 'my nets/b.toml'\n" in title


def test_an_axis_that_a_stem_forbids(place: Path) -> None:
    done = command("init", "resnet18", PHOTOS)
    told = "width: a sub-model has layer1.0.downsample.0.weight, which the full network lacks\n"
    assert done.code == 0 and told in done.err, done


def test_a_run_on_texts_is_cut_first(place: Path) -> None:
    drafted("bert", "--data=moods.tsv")
    refused(command("init", "r", "--data=moods.tsv", "--force"), 2, "sortednet extract")
    cut = ("extract", "r", "--width=0.5", "--depth=2", "--out=cut", "--quiet")
    assert command(*cut).code == 0
    assert command("init", "cut", "--data=moods.tsv", "--force", "--quiet").code == 0
    assert load_spec_file(Path("spec.toml")).space["depth"] == (1, 2)


def test_without_a_network(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*words: Any, **options: Any) -> Done:
        raise ConnectionError("the network is unreachable")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    done = command("init", "somebody/some-model", "--quiet")
    refused(done, 1, "network is unreachable", "name a folder that holds its config.json")
    assert "timm" not in done.err
    # Without timm, its names are names on the hub.
    monkeypatch.setattr("sortednet_cli.engine.drafting.model.timm_models", list)
    done = command("init", "vit_tiny_patch16_224", PHOTOS, "--quiet")
    refused(done, 1, "network is unreachable", "pip install '.[timm]' in your checkout")
