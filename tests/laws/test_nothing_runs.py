"""No file can run code: the sources have no way to, and files that try are refused."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import sortednet_cli
from tests.cli.test_bad_input import RUN, edit, flat_spec, unfinished
from tests.commands import command, listing, refused
from tests.whole.test_language import PICO_RUN

PACKAGE = Path(sortednet_cli.__file__).parent

MODULES = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"),
    *("yaml", "runpy", "code", "codeop", "imp", "ctypes", "subprocess", "multiprocessing"),
}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {
    *("torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "torch.export.load"),
    *("np.load", "numpy.load", "os.system", "os.popen", "importlib.import_module"),
    *("pandas.read_pickle", "torch.export.save", "torchvision.datasets"),
    *("dist.broadcast_object_list", "dist.all_gather_object", "dist.gather_object"),
    *("dist.scatter_object_list", "dist.send_object_list", "dist.recv_object_list"),
    *("pkgutil.resolve_name", "importlib.util.spec_from_file_location"),
    *("importlib.metadata.EntryPoint", "importlib.metadata.entry_points"),
}

EXCEPTIONS = {
    # A bench pack's script imports the runtime that its own table names.
    ("engine/packing/device_script.py", "importlib.import_module"),
    # The C library that the process has loaded already, asked for `mallopt` by its name.
    ("allocator.py", "ctypes"),
    # torchvision's own archives of CIFAR are pickles: read by it, after its checksum.
    ("data/images/arrays.py", "torchvision.datasets"),
    ("data/images/download.py", "torchvision.datasets"),
    # `--format pt2` is written, never read.
    ("engine/export/formats/pt2.py", "torch.export.save"),
    # This package's own names, from a fixed table.
    ("__init__.py", "importlib.import_module"),
    # A factory that the user allowed by name: see the tests below.
    ("families/custom.py", "importlib.import_module"),
    # This package's own classes, and what an installed package adds under a name that is used.
    ("extensions.py", "importlib.metadata.EntryPoint"),
    ("extensions.py", "importlib.metadata.entry_points"),
    ("extensions.py", "point.load()"),
    ("extensions.py", "EntryPoint('own', value, 'sortednet').load()"),
    # It only says where another package's class is.
    ("families/__init__.py", "importlib.metadata.EntryPoint"),
    # torchvision's weights are pickles: read as tensors alone, after their hash.
    ("storage/first_weights.py", "weights.get_state_dict with weights_only"),
    # A picture's pixels.
    ("data/images/pillow.py", "image.load()"),
}


def dangers(source: str) -> Iterator[str]:
    """What in a source could run what a file holds."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if _hits(a.name, MODULES))
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in names if _hits(name, MODULES) or name in CALLS)
        elif isinstance(node, ast.Call):
            yield from _of_call(node)


def _of_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    if name in BUILTINS or name in CALLS:
        yield name
    if name.endswith(".load") and not (node.args or node.keywords):
        yield f"{name}()"  # of an entry point: all others are told what to load
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    trust = given.get("trust_remote_code")
    distrusts = isinstance(trust, ast.Constant) and trust.value is False
    if (trust is not None or name.endswith(".from_pretrained")) and not distrusts:
        yield f"{name} without trust_remote_code=False"
    for key in ("shell", "allow_pickle", "weights_only"):
        if key in given:
            yield f"{name} with {key}"


def _hits(name: str, modules: set[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def test_no_source_of_the_package_can_run_a_file() -> None:
    found = {
        (str(path.relative_to(PACKAGE)), danger)
        for path in sorted(PACKAGE.rglob("*.py"))
        for danger in dangers(path.read_text(encoding="utf-8"))
    }
    assert found == EXCEPTIONS


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import yaml.loader",
        "import torch\ntorch.load('x')",
        "from torch import load",
        "from os import system",
        "eval('1')",
        "exec(text)",
        "__import__(name)",
        "np.load(path, allow_pickle=True)",
        "run('ls', shell=True)",
        "AutoTokenizer.from_pretrained(folder)",
        "AutoTokenizer.from_pretrained(folder, trust_remote_code=True)",
        "load(x, trust_remote_code=chosen)",
        "import importlib\nimportlib.import_module(name)",
        "import subprocess",
        "from importlib.metadata import entry_points",
        "for point in points: point.load()",
        "EntryPoint(name, value, group).load()",
        "import pkgutil\npkgutil.resolve_name(name)",
    ],
)
def test_the_scan_finds(source: str) -> None:
    assert list(dangers(source))


BOMB = "import pathlib; pathlib.Path('RAN').touch()\n"


@pytest.fixture
def bomb(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in the working folder that leaves a mark when it is imported."""
    for name in ("bomb.py", "tokenization_bomb.py", "modeling_bomb.py", "configuration_bomb.py"):
        (work / name).write_text(BOMB + "class Bomb:\n    def __init__(self, *a, **k): ...\n")
    monkeypatch.syspath_prepend(str(work))
    return work


@pytest.mark.parametrize(
    "name", ["eval", "extract", "frontier --cost=latency", "info --plan", "train --resume"]
)
def test_a_factory_in_a_run_needs_leave(bomb: Path, name: str) -> None:
    assert command("train", "--config", flat_spec(), "--quiet").code == 0
    edit(Path("runs/flat/run.json"), "root", "declaration", "factory", value="bomb:Bomb")
    if "--resume" in name:
        edit(Path("runs/flat/run.json"), "state", value="training")
    first, *rest = name.split()
    refused(command(first, "runs/flat", *rest, "--quiet"), 2, "bomb:Bomb", "--allow-factory")
    assert not (bomb / "RAN").exists()


def test_recorded_costs_are_read_without_the_factory(bomb: Path) -> None:
    assert command("train", "--config", flat_spec(), "--quiet").code == 0
    edit(Path("runs/flat/run.json"), "root", "declaration", "factory", value="bomb:Bomb")
    assert command("frontier", "runs/flat", "--quiet").code == 0
    assert not (bomb / "RAN").exists()


def test_classes_named_by_a_run_are_not_looked_up(home: Path) -> None:
    manifest = RUN / "run.json"
    whole = manifest.read_text()
    for family in ("bert", "llama"):
        for config in (
            {"architectures": ["Bomb"]},
            {"architectures": ["pipeline"], "model_type": family},
            {"architectures": [f"{family.title()}ForCausalLM"], "model_type": "bomb"},
        ):
            manifest.write_text(whole)
            edit(manifest, "root", "family", value=family)
            edit(manifest, "root", "config", value={"num_hidden_layers": 1, **config})
            refused(command("eval", RUN), 2)


@pytest.fixture(scope="module")
def trained_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    settings = [f"--set={setting}" for setting in PICO_RUN]
    done = command("train", "--preset=pydoc-llama", *settings, f"--out={folder}/run", "--quiet")
    assert done.code == 0, done
    assert command("extract", folder / "run", "--out", folder / "cut", "--quiet").code == 0
    return folder


AUTO_MAP = {
    "AutoTokenizer": ["tokenization_bomb.Bomb", "tokenization_bomb.Bomb"],
    "AutoConfig": "configuration_bomb.Bomb",
    "AutoModelForCausalLM": "modeling_bomb.Bomb",
}


def _armed(bomb: Path, folder: Path) -> Path:
    """A copy of a folder with code beside its tokenizer and configuration."""
    import shutil

    shutil.copytree(folder, bomb / folder.name)
    for part in (bomb / folder.name, bomb / folder.name / "tokenizer"):
        for code in bomb.glob("*_bomb.py") if part.is_dir() else ():
            shutil.copyfile(code, part / code.name)
    return bomb / folder.name


@pytest.mark.parametrize("tokenizer_class", [None, "Bomb", "bomb.Bomb"])
def test_a_tokenizer_that_names_code(bomb: Path, trained_texts: Path, tokenizer_class: str) -> None:
    for folder in (_armed(bomb, trained_texts / "run"), _armed(bomb, trained_texts / "cut")):
        file = next(folder.rglob("tokenizer_config.json"))
        edit(file, "auto_map", value=AUTO_MAP)
        edit(file, "tokenizer_class", value=tokenizer_class or "PreTrainedTokenizerFast")
        done = command("generate", folder, "--prompt=a", "--max-new-tokens=1")
        assert done.code == 0 or done.err.count("error:") == 1
        assert not (bomb / "RAN").exists()


def test_a_stock_checkpoint_that_names_code(bomb: Path, trained_texts: Path) -> None:
    folder = _armed(bomb, trained_texts / "cut")
    (folder / "sortednet.json").unlink()
    edit(folder / "config.json", "auto_map", value=AUTO_MAP)
    done = command("extract", folder, "--depth=1", "--out=again", "--quiet")
    assert done.code == 0, done
    assert "auto_map" not in json.loads(Path("again/config.json").read_text())
    edit(folder / "config.json", "architectures", value=["BombForCausalLM"])
    edit(folder / "config.json", "model_type", value="bomb")
    before = listing(bomb)
    refused(command("extract", folder, "--depth=1", "--out=more"), 2, "BombForCausalLM")
    assert listing(bomb) == before
    assert not (bomb / "RAN").exists()


def test_code_in_the_root_of_an_artifact(bomb: Path, trained_texts: Path) -> None:
    folder = _armed(bomb, trained_texts / "cut")
    edit(folder / "sortednet.json", "root", "config", "auto_map", value=AUTO_MAP)
    refused(command("extract", folder, "--depth=1", "--out=more"), 2, "auto_map")
    assert not (bomb / "RAN").exists()


def test_a_name_cannot_lead_out_of_the_folder(home: Path) -> None:
    for name in ("../out", "/tmp/out", "..", "a/b", "a\\b", ".hidden", "", "x" * 200, "a\x1b[2J"):
        start = ("train", "--preset=digits-resnet", "--set=train.updates=1")
        refused(command(*start, f"--set=name={json.dumps(name)}"), 2, "name: ")
    assert command("extract", "--out=cut", "--quiet").code == 0
    edit(Path("cut/sortednet.json"), "run", value="../../out")
    refused(command("extract", "cut"), 2, "cut/sortednet.json is damaged: run: ")


def test_a_pointer_cannot_lead_out_of_the_checkpoints(home: Path) -> None:
    unfinished()
    (RUN / "checkpoints" / "latest").write_text("step-3/../../../elsewhere")
    refused(command("train", "--resume", RUN), 2, "latest is damaged")
