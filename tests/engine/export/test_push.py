"""Artifacts sent to a server in the hub's place, and loaded from there by their name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import transformers
from huggingface_hub import ModelCard

from sortednet_cli.storage.pretrained import hub_name
from tests.cli.test_bad_input import edit
from tests.commands import Done, command, listing, python, refused, shell
from tests.engine.export.test_extract import train_pico
from tests.families.test_timm import VIT
from tests.hub import Hub, Repository
from tests.sealing import reseal

TOKEN, NAME = "hf_test", "me/digits"
EQUAL = """
import torch
from safetensors.torch import load_file
check = load_file("cut/check.safetensors")
with torch.no_grad():
    assert torch.equal(model(check["inputs"]), check["logits"])
"""
Push = Callable[..., Done]


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub(TOKEN)
    yield server
    server.close()


@pytest.fixture
def push(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Push:
    """Push `cut` to the local server, in a process that knows it and a token."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub-home"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")  # the server takes the older form of uploads
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")

    def run(*arguments: str, artifact: str = "cut", name: str = NAME, **variables: str) -> Done:
        words = " ".join(arguments)
        return shell(f"sortednet push {artifact} {name} {words}", fresh=True, **variables)

    return run


@pytest.fixture
def cut(home: Path) -> Path:
    """The artifact `cut` in the working folder."""
    done = command("extract", "--width=0.5", "--depth=1", "--out=cut", "--quiet")
    assert done.code == 0, done
    return home / "cut"


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def sent(repository: Repository, branch: str = "main") -> dict[str, bytes]:
    files = dict(repository.files(branch))
    del files[".gitattributes"]
    return files


def test_an_artifact_arrives_whole_and_loads_by_its_name(cut: Path, hub: Hub, push: Push) -> None:
    before = listing(cut)
    done = push()
    assert (done.code, done.out) == (0, f"{hub.url}/{NAME}\n"), done
    repository = hub.repositories[NAME]
    assert sent(repository) == contents(cut)
    assert repository.messages == ["initial commit", "digits-resnet w0.5-d1"]
    assert not repository.private
    assert listing(cut) == before
    load = f"from sortednet_cli import load_artifact\nmodel = load_artifact({NAME!r}).module()\n"
    python(load + EQUAL, cut.parent, fresh=True)
    again = push("--json")
    assert json.loads(again.out)["commit"] == repository.branches["main"]


def test_a_timm_artifact_loads_in_timm(work: Path, hub: Hub, push: Push) -> None:
    Path("vit.toml").write_text(VIT)
    assert command("train", "--config=vit.toml", "--quiet").code == 0
    assert command("extract", "--width=0.5", "--depth=1", "--out=cut", "--quiet").code == 0
    assert push().code == 0
    load = f"import timm\nmodel = timm.create_model('hf-hub:{NAME}', pretrained=True).eval()\n"
    python(load + EQUAL, work, fresh=True)


def test_a_torchvision_artifact_loads_by_its_name(work: Path, hub: Hub, push: Push) -> None:
    train_pico("mobilenet_v2", work)
    cut = ("--width=0.5", "--depth=3", "--out=cut", "--quiet")
    assert command("extract", "run", *cut).code == 0
    assert push().code == 0
    load = f"from sortednet_cli import load_artifact\nmodel = load_artifact({NAME!r}).module()\n"
    python(load + EQUAL, work, fresh=True)


def stock(folder: Path) -> Path:
    """A small LLaMA in the folder of a model in the hub's cache."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        vocab_size=100,
        max_position_embeddings=64,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_transformers_artifact_loads_by_its_name_and_names_its_base_model(
    work: Path, hub: Hub, push: Push
) -> None:
    """A second push, of one weight file in place of several, removes the shards."""
    place = stock(work / "models--some--llama" / "snapshots" / "0123")
    shards = ("--max-shard-size=20k", "--verify=tensors", "--quiet")
    assert command("extract", place, "--depth=1", "--out=cut", *shards).code == 0
    assert push().code == 0
    assert sent(hub.repositories[NAME]) == contents(work / "cut")
    load = f"""
import torch
from transformers import AutoModelForCausalLM
ours = AutoModelForCausalLM.from_pretrained("cut").state_dict()
model = AutoModelForCausalLM.from_pretrained({NAME!r}).state_dict()
assert ours.keys() == model.keys() and all(torch.equal(ours[key], model[key]) for key in ours)
"""
    python(load, work, fresh=True)
    card = ModelCard.load(work / "cut" / "README.md").data.to_dict()
    assert card == {
        "base_model": "some/llama",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["sortednet"],
    }
    again = command("extract", "cut", "--width=0.5", "--out=half", "--quiet", "--verify=tensors")
    assert again.code == 0, again
    smaller = json.loads(push("--json", artifact="half").out)
    assert "model.safetensors.index.json" in smaller["removed"]
    assert smaller["metadata"]["base_model"] == "some/llama"
    assert sent(hub.repositories[NAME]) == contents(work / "half")


def test_the_card_has_metadata_that_the_hubs_client_reads(cut: Path) -> None:
    card = ModelCard.load(cut / "README.md", ignore_metadata_errors=False)
    row = json.loads((cut / "sortednet.json").read_text())["submodel"]
    assert card.data.model_name == "digits-resnet w0.5-d1"
    assert (card.data.library_name, card.data.pipeline_tag) == (
        "sortednet-cli",
        "image-classification",
    )
    assert card.data.get("license") is None and card.data.get("base_model") is None
    results = card.data.eval_results
    assert results is not None
    assert {(r.dataset_type, r.dataset_split, r.task_type) for r in results} == {
        ("digits", "test", "image-classification")
    }
    assert {r.metric_type: r.metric_value for r in results} == row["metrics"]["test"]


def test_the_base_model_of_a_run_is_in_every_card(home: Path) -> None:
    edit(home / "runs/digits-resnet/run.json", "base_model", value="some/resnet")
    reseal(home / "runs/digits-resnet")
    assert command("extract", "--depth=1", "--out=cut", "--quiet").code == 0
    assert command("extract", "cut", "--width=0.5", "--out=again", "--quiet").code == 0
    for folder in ("cut", "again"):
        assert ModelCard.load(home / folder / "README.md").data.base_model == "some/resnet"


@pytest.mark.parametrize(
    ("pretrained", "name"),
    [
        ("some/llama", "some/llama"),
        ("llama", "llama"),
        ("cache/models--some--llama/snapshots/0123", "some/llama"),
        ("cache/models--some--llama", None),
        ("torchvision:ResNet50_Weights.DEFAULT", None),
        ("package:tests", None),
    ],
)
def test_which_pretrained_models_have_a_name_on_the_hub(
    work: Path, pretrained: str, name: str | None
) -> None:
    (work / "cache/models--some--llama/snapshots/0123").mkdir(parents=True)
    assert hub_name(pretrained) == name


def test_a_dry_run_says_what_would_be_sent_and_asks_nobody(cut: Path, hub: Hub, push: Push) -> None:
    """It needs neither a token nor a network."""
    alone = {"HF_TOKEN": "", "HF_HUB_OFFLINE": "1"}
    done = push("--dry-run", **alone)
    assert done.code == 0, done
    for name, content in contents(cut).items():
        assert f"{len(content):,}  {name}\n" in done.out
    assert "library_name: sortednet-cli" in done.out and "accuracy" in done.out
    document = json.loads(push("--dry-run", "--json", **alone).out)
    assert {file["name"]: file["bytes"] for file in document["files"]} == {
        name: len(content) for name, content in contents(cut).items()
    }
    assert (document["url"], document["commit"]) == (None, None)
    assert document["metadata"]["pipeline_tag"] == "image-classification"
    assert hub.requests == []


def test_a_private_repository_a_branch_a_message_and_an_edited_card(
    cut: Path, hub: Hub, push: Push
) -> None:
    card = cut / "README.md"
    card.write_text(
        card.read_text().replace("tags:", "license: mit\nbirth: 2026-01-01\nshare: .nan\ntags:")
    )
    (cut / "LICENSE").write_text("as is")
    (cut / ".secret").write_text("not for others")
    planned = json.loads(push("--dry-run", "--json").out)["metadata"]
    assert (planned["birth"], planned["share"], planned["license"]) == ("2026-01-01", "nan", "mit")
    done = push("--private", "--revision=v1", "--message='first try'")
    assert (done.code, done.out) == (0, f"{hub.url}/{NAME}/tree/v1\n"), done
    assert "files without a checksum are sent too: LICENSE" in done.err
    assert "hidden files and links are not sent: .secret" in done.err
    assert "states no licence" not in done.err
    repository = hub.repositories[NAME]
    assert repository.private and repository.messages[-1] == "first try"
    assert sent(repository) == {}
    expected = contents(cut)
    del expected[".secret"]
    assert sent(repository, "v1") == expected


def test_a_public_repository_is_not_taken_for_a_private_one(
    cut: Path, hub: Hub, push: Push
) -> None:
    assert push().code == 0
    before = dict(hub.repositories[NAME].branches)
    refused(push("--private"), 2, f"{NAME} exists and is public")
    assert hub.repositories[NAME].branches == before


def test_another_model_is_not_mixed_with(cut: Path, hub: Hub, push: Push) -> None:
    repository = hub.repositories[NAME] = Repository(private=False)
    repository.add("main", {"pytorch_model.bin": b"weights", "README.md": b"mine"}, "mine")
    refused(push(), 2, f"{NAME} holds another model (pytorch_model.bin)")
    assert repository.messages == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (
            {},
            {"HF_TOKEN": ""},
            "no token for the hub: log in with `hf auth login`, or set HF_TOKEN",
        ),
        ({}, {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ({"name": "digits"}, {}, "'digits' is no name of a repository: write it as user/name"),
        ({"name": "me/dig--its"}, {}, "'me/dig--its' is no name of a repository"),
        ({"artifact": "nowhere"}, {}, "no artifact at nowhere"),
        (
            {"artifact": "runs/digits-resnet"},
            {},
            "runs/digits-resnet is a run, of which one sub-model can be pushed: cut it out with:"
            " sortednet extract runs/digits-resnet",
        ),
    ],
)
def test_a_wrong_request_asks_nobody(
    cut: Path,
    hub: Hub,
    push: Push,
    arguments: dict[str, str],
    variables: dict[str, str],
    message: str,
) -> None:
    refused(push(**arguments, **variables), 2, message)
    assert hub.requests == []


def test_a_damaged_artifact_is_not_sent(cut: Path, hub: Hub, push: Push) -> None:
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    refused(push(), 2, "cut/model.safetensors is damaged")
    refused(push("--dry-run"), 2, "cut/model.safetensors is damaged")
    assert hub.requests == []


def test_metadata_that_are_no_yaml_are_refused(cut: Path, hub: Hub, push: Push) -> None:
    (cut / "README.md").write_text("---\ntags: [\n---\n")
    refused(push(), 2, "cut/README.md: its metadata cannot be read")
    assert hub.requests == []


@pytest.mark.parametrize(
    ("place", "status", "message", "is_made"),
    [
        ("repos/create", 403, "You have no rights to create a model under me", False),
        ("/commit/", 403, "Forbidden", True),
        ("/commit/", 409, "the repository has changed meanwhile: push again", True),
    ],
)
def test_what_the_server_refuses_is_told_and_leaves_nothing(
    cut: Path, hub: Hub, push: Push, place: str, status: int, message: str, is_made: bool
) -> None:
    hub.refusals[place] = (status, message)
    done = push()
    refused(done, 1, f"cannot push to {NAME}: {status}", message)
    assert ("the repository was created, and is empty" in done.err) == is_made
    assert all(sent(repository) == {} for repository in hub.repositories.values())


def test_metadata_that_the_hub_refuses_make_no_repository(cut: Path, hub: Hub, push: Push) -> None:
    hub.refusals["validate-yaml"] = (400, '"license" must be one of [...]')
    refused(push(), 2, 'cut/README.md: the hub refuses its metadata: "license" must be one of')
    assert hub.repositories == {}


def test_a_wrong_token_and_a_server_that_is_gone(cut: Path, hub: Hub, push: Push) -> None:
    refused(push(HF_TOKEN="hf_other"), 1, "cannot push to", "log in again with: hf auth login")
    refused(push(HF_ENDPOINT="http://127.0.0.1:9"), 1, f"cannot push to {NAME}")
    assert hub.repositories == {}


def test_loading_by_a_name_checks_as_loading_a_folder_does(cut: Path, hub: Hub, push: Push) -> None:
    assert push("--revision=v1").code == 0
    load = f"""
from sortednet_cli import RequestError, WorkError, load_artifact
assert load_artifact({NAME!r}, revision="v1").module()
for name, revision, kind, text in [
    ({NAME!r}, None, RequestError, "has no sortednet.json"),
    ("me/other", None, WorkError, "could not be downloaded from the hub"),
    ("cut", "v1", RequestError, "revision is only for those"),
    ("nowhere", None, RequestError, "no artifact at nowhere"),
]:
    try:
        load_artifact(name, revision=revision)
    except kind as error:
        assert text in str(error), error
    else:
        raise AssertionError(name)
"""
    python(load, cut.parent, fresh=True)
    files = hub.repositories[NAME].files("v1")
    files["model.safetensors"] = files["model.safetensors"][:-1] + b"x"
    hub.repositories[NAME].add("v2", files, "damaged")
    damaged = f"""
from sortednet_cli import RequestError, load_artifact
try:
    load_artifact({NAME!r}, revision="v2").module()
except RequestError as error:
    assert "is damaged" in str(error)
else:
    raise AssertionError
"""
    python(damaged, cut.parent, fresh=True)
