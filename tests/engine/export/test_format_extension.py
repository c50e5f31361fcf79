"""A file format of another package: written, verified and described by one entry point."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from sortednet_cli.engine.export.formats import own_formats
from sortednet_cli.storage.artifact import ArtifactFolder
from tests.commands import command, listing, refused
from tests.extension import installed

SOURCE = '''
import json
from pathlib import Path

from sortednet_cli.engine.export.formats import Format

Path("IMPORTED").touch()


class Numbers(Format):
    """Weights as text, for somebody's microcontroller."""

    name = "txt"
    card = "holds the weights as decimal numbers."
    runtime = "python"
    tolerance = 1e-3
    packages = ("json",)
    install = "pip install toy"

    def refusal(self, kind):
        return None if kind == "image" else "for image models"

    def write(self, module, inputs, file):
        self.module = module
        values = {name: tensor.tolist() for name, tensor in module.state_dict().items()}
        file.write_text(json.dumps(values))

    def open(self, file, threads=1):
        import torch

        read = {name: torch.tensor(value) for name, value in json.loads(file.read_text()).items()}
        self.module.load_state_dict(read)

        def run(inputs):
            with torch.no_grad():
                return self.module(inputs) + 0.0

        return run
'''
POINTS = {"sortednet.formats": {"txt": "toy:Numbers"}}
WRITES = "file.write_text(json.dumps(values))"
OPENS = SOURCE[SOURCE.index("        import torch") :]


@pytest.fixture
def toy(home: Path) -> Iterator[Path]:
    with installed(home.parent, {"toy.py": SOURCE}, POINTS) as files:
        assert files == ["toy.py"]
        yield home


def test_it_is_listed_and_not_imported(toy: Path) -> None:
    words = " ".join(command("extract", "--help").out.split())
    names = ", ".join(["safetensors", *own_formats(), "txt"])
    assert f"{names}." in words
    refused(command("extract", "--format=zip"), 2, f"the formats are {names}")
    assert command("extract", "--out=plain", "--quiet").code == 0
    assert not Path("IMPORTED").exists()


@pytest.mark.parametrize("check", ["auto", "tensors"])
def test_its_file_is_written_and_described(toy: Path, check: str) -> None:
    done = command(
        "extract", "--depth=1", "--format=txt", f"--verify={check}", "--out=cut", "--json"
    )
    assert done.code == 0, done
    verified = json.loads(done.out)["verified"]
    exported = verified["exported"]
    assert verified["samples"] > 0 and exported["max_abs_diff"] <= 1e-3
    assert (exported["format"], exported["file"], exported["runtime"]) == (
        "txt",
        "model.txt",
        "python",
    )
    assert exported["size_bytes"] == Path("cut/model.txt").stat().st_size
    assert json.loads(Path("cut/model.txt").read_text())
    card = Path("cut/README.md").read_text()
    assert card.endswith("`model.txt` holds the weights as decimal numbers.\n")
    manifest = ArtifactFolder(Path("cut")).manifest()
    assert manifest.files is not None and "model.txt" in manifest.files


def test_a_file_that_nothing_here_runs_is_unverified(home: Path) -> None:
    source = SOURCE.replace(OPENS, "        return None\n")
    with installed(home.parent, {"toy.py": source}, POINTS):
        done = command("extract", "--depth=1", "--format=txt", "--out=cut", "--json")
    assert done.code == 0, done
    exported = json.loads(done.out)["verified"]["exported"]
    assert (exported["max_abs_diff"], exported["samples"]) == (None, 0)
    assert "model.txt unverified" in done.err
    card = Path("cut/README.md").read_text()
    assert card.endswith("Its outputs are **unverified**: nothing here runs python.\n")


def test_outputs_that_still_have_a_gradient_are_compared_without_a_word(home: Path) -> None:
    source = SOURCE.replace("torch.no_grad()", "torch.enable_grad()")
    with installed(home.parent, {"toy.py": source}, POINTS), warnings.catch_warnings():
        warnings.simplefilter("error")
        done = command("extract", "--format=txt", "--out=cut", "--quiet")
    assert (done.code, done.err) == (0, "")


def test_its_file_is_for_others_to_run(toy: Path) -> None:
    """Like any export it may be moved away; only `info --check` looks at it."""
    assert command("extract", "--format=txt", "--out=cut", "--quiet").code == 0
    Path("cut/model.txt").write_text("damaged")
    assert command("extract", "cut", "--depth=1", "--out=again", "--quiet").code == 0
    refused(command("info", "cut", "--check"), 2, "cut/model.txt is damaged")


@pytest.mark.parametrize(
    ("old", "new", "code", "fragments"),
    [
        ("+ 0.0", "+ 0.1", 1, ["verification failed: the outputs of model.txt differ by 0.1"]),
        ("+ 0.0", "* float('nan')", 1, ["the outputs of model.txt differ by nan"]),
        ('"image" else', '"text" else', 2, ["--format txt is for image models"]),
        ('("json",)', '("json", "no_such")', 2, ["--format txt needs: pip install toy"]),
        ('name = "txt"', 'name = "csv"', 2, ["'txt' (toy:Numbers) calls itself 'csv'"]),
        ("card =", "car_d =", 2, ["'txt' (toy:Numbers) lacks card"]),
        ("def write", "def wrote", 2, ["'txt' (toy:Numbers) lacks write"]),
        ("def open", "def opened", 2, ["'txt' (toy:Numbers) lacks open"]),
        ("runtime =", "run_time =", 2, ["'txt' (toy:Numbers) lacks runtime"]),
        ("return self.module(inputs) + 0.0", "return None", 1, ["model.txt gives no logits"]),
        ("+ 0.0", "[:, :2]", 1, ["verification failed: model.txt gives no", "shape [4, 10]"]),
        (WRITES, "pass", 1, ["'txt' wrote no model.txt"]),
        (
            "        read =",
            "        1 / 0\n        read =",
            1,
            ["python cannot read model.txt: div"],
        ),
    ],
    ids=[
        *("outputs", "nan", "refusal", "package", "name", "card", "unfinished"),
        *("unopened", "runtime", "nothing", "shape", "file", "unread"),
    ],
)
def test_what_fails_leaves_nothing(
    home: Path, old: str, new: str, code: int, fragments: list[str]
) -> None:
    before = listing(home)
    with installed(home.parent, {"toy.py": SOURCE.replace(old, new)}, POINTS):
        refused(command("extract", "--format=txt", "--out=cut", "--quiet"), code, *fragments)
    (home / "IMPORTED").unlink()
    assert listing(home) == before


def test_the_name_of_an_own_format_is_taken(home: Path) -> None:
    points = {"sortednet.formats": {"onnx": "toy:Numbers"}}
    with installed(home.parent, {"toy.py": SOURCE}, points):
        done = command("extract", "--format=onnx", "--out=cut", "--quiet")
        assert done.code == 0, done
        assert "'onnx' (toy:Numbers) is not used: sortednet-cli has its own" in done.err
        assert command("extract", "--out=plain", "--quiet").err == ""
    assert Path("cut/model.onnx").is_file() and not Path("IMPORTED").exists()
