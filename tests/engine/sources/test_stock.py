"""Stock checkpoints: cut as a run is, in one file or many, without loading them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.commands import Done, command, environment, listing, refused

CONFIG = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 100,
    "max_position_embeddings": 64,
}


def _checkpoint(folder: Path, *, tied: bool = False, shard: str = "50MB") -> Path:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**CONFIG, tie_word_embeddings=tied, pad_token_id=0)
    model = transformers.LlamaForCausalLM(config).bfloat16()
    model.save_pretrained(folder, max_shard_size=shard)
    return folder


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("check", ["auto", "tensors"])
def test_a_sharded_checkpoint_is_cut_and_loads(tmp_path: Path, tied: bool, check: str) -> None:
    stock = _checkpoint(tmp_path / "stock", tied=tied, shard="20KB")
    assert (stock / "model.safetensors.index.json").is_file()
    before = listing(stock)
    done = command(
        *("extract", stock, "--width", "0.5", "--depth", "2", "--json", "--quiet"),
        *("--verify", check, "--max-shard-size", "10k", "--out", tmp_path / "cut"),
    )
    assert done.code == 0, done
    assert listing(stock) == before
    verified = json.loads(done.out)["verified"]
    assert verified["samples"] == (4 if check == "auto" else 0)
    assert (verified["max_abs_diff"] is None) == (check == "tensors")
    cut = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "cut")
    assert cut.dtype == torch.bfloat16
    assert cut.config.num_hidden_layers == 2
    full = transformers.AutoModelForCausalLM.from_pretrained(stock).state_dict()
    for name, tensor in cut.state_dict().items():
        index = tuple(slice(0, size) for size in tensor.shape)
        assert torch.equal(tensor, full[name][index]), name
    index_file = tmp_path / "cut" / "model.safetensors.index.json"
    names = json.loads(index_file.read_text())["weight_map"]
    assert ("lm_head.weight" in names) == (not tied)
    card = (tmp_path / "cut" / "README.md").read_text()
    assert "AutoModelForCausalLM.from_pretrained" in card
    assert "AutoTokenizer" not in card  # the checkpoint has none
    assert "starting point, not a good model" in card
    assert "Test part" not in card and "nested network" not in card
    for file in sorted(set(names.values())):
        found = load_file(tmp_path / "cut" / file)
        assert len(found) == 1 or sum(t.nbytes for t in found.values()) <= 10_000
    again = command("extract", tmp_path / "cut", "--depth", "1", "--out", tmp_path / "again")
    assert again.code == 0, again
    assert command("info", tmp_path / "cut").code == 0


def test_plan_of_a_checkpoint(tmp_path: Path) -> None:
    stock = _checkpoint(tmp_path / "stock")
    done = command("info", stock, "--plan", "--width", "0.5", "--depth", "1")
    assert done.code == 0
    assert "model.layers.0.mlp.up_proj.weight" in done.out
    assert "[:24, :16]" in done.out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["OPTForCausalLM"], "model_type": "opt"}, "is not supported"),
        ({"architectures": []}, "is not supported"),
        ({"vocab_size": "many"}, "config.json"),
        ({"num_attention_heads": 0}, "config"),
        ({"hidden_size": -4}, "config"),
    ],
)
def test_a_config_that_is_none(tmp_path: Path, change: dict[str, object], message: str) -> None:
    stock = _checkpoint(tmp_path / "stock")
    file = stock / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    refused(command("extract", stock, "--depth", "1", "--out", tmp_path / "cut"), 2, message)
    assert not (tmp_path / "cut").exists()


def test_missing_misshapen_and_vanished_tensors(tmp_path: Path) -> None:
    stock = _checkpoint(tmp_path / "stock")
    whole = load_file(stock / "model.safetensors")
    for tensors in (
        {name: tensor for name, tensor in whole.items() if "norm" not in name},
        {name: tensor[:1] for name, tensor in whole.items()},
    ):
        save_file({n: t.contiguous() for n, t in tensors.items()}, stock / "model.safetensors")
        for check in ("auto", "tensors"):
            done = command(
                "extract", stock, "--depth", "1", "--verify", check, "--out", tmp_path / "cut"
            )
            refused(done, 2, "stock")
            assert not (tmp_path / "cut").exists()
    sharded = _checkpoint(tmp_path / "sharded", shard="20KB")
    next(iter(sorted(sharded.glob("*.safetensors")))).unlink()
    done = command("extract", sharded, "--depth", "1", "--out", tmp_path / "cut")
    refused(done, 2, "sharded")
    index = sharded / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    refused(command("extract", sharded, "--depth", "1"), 2, "outside its folder")


def test_other_commands_say_what_a_checkpoint_lacks(tmp_path: Path) -> None:
    stock = _checkpoint(tmp_path / "stock")
    for arguments in (["eval"], ["frontier"], ["extract", "--max-params=1k"], ["info"]):
        done = command(arguments[0], stock, *arguments[1:])
        assert done.code == 2, done
        assert "Traceback" not in done.err


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Cutting 400 MB out of 600 MB holds a few blocks, not the tensors."""
    folder = tmp_path / "stock"
    config = transformers.LlamaConfig(
        **{**CONFIG, "hidden_size": 2048, "vocab_size": 40_000, "intermediate_size": 4096}
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    folder.mkdir()
    zeros = {
        name: torch.zeros(tensor.shape, dtype=torch.bfloat16)
        for name, tensor in model.state_dict().items()
    }
    save_file(zeros, folder / "model.safetensors", {"format": "pt"})
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    script = (
        "import sys; from pathlib import Path\n"
        "import sortednet_cli.engine.export.extract, transformers; transformers.LlamaForCausalLM\n"
        "from sortednet_cli.cli.main import run\n"
        "read = lambda key: next(int(l.split()[1]) for l in"
        " Path('/proc/self/status').read_text().splitlines() if l.startswith(key))\n"
        "before = read('VmRSS')\n"
        "Path('/proc/self/clear_refs').write_text('5')\n"
        "code = run(sys.argv[1:])\n"
        "print((read('VmHWM') - before) // 1024); sys.exit(code)\n"
    )
    words = ["extract", folder, "--depth", "2", "--verify", "tensors", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, words), "--out", str(tmp_path / "cut")],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert int(done.stdout.splitlines()[-1]) < 300
    assert isinstance(command("info", tmp_path / "cut"), Done)
