"""What people's machines and clones hold: each once broke a neighbouring project."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from sortednet_cli import bounded
from sortednet_cli.errors import WorkError
from sortednet_cli.storage.files import write_text
from sortednet_cli.storage.pretrained import open_pretrained
from tests.commands import SORTEDNET, TINY, command, environment, refused

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'5' * 64}\nsize 98765\n"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder as `save_pretrained` writes it."""
    config = transformers.LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "stock")
    return tmp_path / "stock"


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (len(path.name), 9, 9)).save(path)


@pytest.mark.parametrize(
    "name", ["train.jsonl", "train.txt", "train.csv.gz", "train.parquet", "folder.tar", "a.jpg"]
)
def test_a_pointer_of_git_lfs_is_no_data(work: Path, name: str) -> None:
    data = work / "data" / name
    if name == "a.jpg":
        for number in range(9):
            _image(work / "data" / "cat" / f"{number}.png")
            _image(work / "data" / "dog" / f"{number}.png")
        data = work / "data" / "cat" / name
    data.parent.mkdir(exist_ok=True)
    data.write_text(POINTER)
    preset = "pydoc-llama" if name.startswith("train") else "digits-resnet"
    source = "text" if name.startswith("train") else "image-folder"
    path = data if name.endswith(".tar") else work / "data"
    done = command("train", f"--preset={preset}", f"--set=data.source={source}", "--data", path)
    refused(done, 2, name, "a Git LFS pointer", "git lfs pull")
    assert "Errno" not in done.err


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pointer_of_git_lfs_is_no_model(checkpoint: Path, name: str) -> None:
    (checkpoint / name).write_text(POINTER)
    done = command("extract", checkpoint, "--depth=1", "--out", checkpoint.parent / "out")
    refused(done, 2, name, "a Git LFS pointer")
    assert "Errno" not in done.err


def test_a_text_about_pointers_is_a_text(tmp_path: Path) -> None:
    for text in (POINTER + "x" * 1024, f"# {POINTER}", ""):
        (tmp_path / "text").write_text(text)
        assert bounded.read_bounded(tmp_path / "text", 1 << 20).decode() == text
        assert bounded.check_regular(tmp_path / "text") == len(text)


def test_of_two_sets_of_weights_that_of_transformers_is_read(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A single file beside older shards, as a second `save_pretrained` can leave them."""
    stored = load_file(checkpoint / "model.safetensors")
    shard = "model-00001-of-00001.safetensors"
    save_file({name: torch.zeros_like(t) for name, t in stored.items()}, checkpoint / shard)
    index = {"metadata": {}, "weight_map": dict.fromkeys(stored, shard)}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    stock = transformers.AutoModelForCausalLM.from_pretrained(checkpoint).state_dict()
    read = open_pretrained(str(checkpoint)).tensors()
    assert all(torch.equal(read[name], stock[name]) for name in stored)
    assert "ignoring the shards of model.safetensors.index.json" in caplog.text
    (checkpoint / "model.safetensors").unlink()
    assert not any(t.any() for t in open_pretrained(str(checkpoint)).tensors().values())


def _adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')


def _adapter_alone(folder: Path) -> None:
    _adapter(folder)
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "config.json").unlink()


def _variant(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_adapter, ("holds an adapter", "merge_and_unload")),
        (_adapter_alone, ("holds an adapter", "merge_and_unload")),
        (_variant, ("holds no model.safetensors, but model.fp16.safetensors",)),
        (_pickle, ("is a pickle",)),
    ],
)
def test_what_is_nearly_a_checkpoint_says_what_it_lacks(
    checkpoint: Path, change: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    change(checkpoint)
    out = checkpoint.parent / "out"
    refused(command("extract", checkpoint, "--depth=1", "--out", out), 2, *words)
    assert not out.exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "model.norm.weight holds NaN"),
        (float("inf"), "outputs of w1-d1 are not finite"),
    ],
)
def test_weights_that_are_no_numbers_are_named(checkpoint: Path, value: float, words: str) -> None:
    """NaN equals nothing: a comparison alone would say that the copy is not a copy."""
    stored = load_file(checkpoint / "model.safetensors")
    stored["model.norm.weight"][0] = value
    save_file(stored, checkpoint / "model.safetensors")
    done = command("extract", checkpoint, "--depth=1", "--out", checkpoint.parent / "out")
    refused(done, 2, words)
    assert not (checkpoint.parent / "out").exists()


def test_a_user_without_a_home_trains(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run under a number that no list of users has."""
    import pwd

    def nobody(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("HOME", "XDG_CACHE_HOME", "SORTEDNET_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for part in ("train", "test"):
        for number in range(9):
            _image(work / "data" / part / "cat" / f"{number}.png")
            _image(work / "data" / part / "dog" / f"1{number}.png")
    data = ("--set=data.source=image-folder", "--set=train.batch_size=4", "--data", "data")
    done = command("train", *TINY, *data, "--out", "run")
    assert done.code == 0, done.err
    assert "not cached" in done.err and "SORTEDNET_CACHE" in done.err
    refused(command("train", *TINY, "--set=data.source=mnist"), 1, "no cache folder")
    refused(
        command("train", "--preset=pydoc-llama", "--set=model.pretrained=~nobody-here/model"),
        2,
        "model.pretrained",
        "~nobody-here",
    )


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, ("MASTER_ADDR, MASTER_PORT is not set", "torchrun")),
        ({"WORLD_SIZE": "two"}, ("WORLD_SIZE=two",)),
        ({"RANK": "-1"}, ("RANK=-1",)),
        (
            {"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
            ("RANK=2 is not below WORLD_SIZE=2",),
        ),
    ],
)
def test_half_a_job_is_told(
    work: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    words: tuple[str, ...],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    refused(command("train", *TINY, "--out", "run"), 2, *words)
    assert not Path("run").exists()


def test_variables_without_a_job_silence_nothing(work: Path) -> None:
    for variables in ({"RANK": "3"}, {"RANK": "", "WORLD_SIZE": ""}, {"WORLD_SIZE": "1"}):
        done = subprocess.run(
            [SORTEDNET, "info", "nothing-here"],
            env=environment(**variables),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr.count("no run at nothing-here")) == (2, 1), done


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use is not removed there")
def test_a_working_folder_that_is_gone(work: Path) -> None:
    (work / "gone").mkdir()
    os.chdir(work / "gone")
    (work / "gone").rmdir()
    refused(command("train", *TINY, "--out", work / "run"), 2, "folder no longer exists")


def test_a_file_system_that_cannot_sync_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def of_files_alone(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", of_files_alone)
    number = errno.EINVAL
    write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"
    number = errno.EIO
    with pytest.raises(WorkError, match="Input/output error"):
        write_text(tmp_path / "a", "newer")
