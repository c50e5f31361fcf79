"""Data sources of another package: images and texts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sortednet_cli.spec.data_sources import DataSource
from sortednet_cli.spec.vocabulary import SOURCES
from tests.cli.test_shell import HEAVY
from tests.commands import TINY, command, environment, refused
from tests.extension import installed

IMAGES = '''
"""The source `stripes`: images of as many stripes as their class says."""

from sortednet_cli.data import ImageSource


class Stripes(ImageSource):
    channels, image_size, num_classes = 1, 8, 4
    refusal = "stripes are drawn, not read"

    def read(self, spec, found):
        import torch
        from sortednet_cli.data import Decoded

        labels = torch.arange(400) % 4
        rows = torch.arange(16) * (labels[:, None] + 1) // 4 % 2 * 255
        images = rows[:, None, None].expand(400, 1, 16, 16).to(torch.uint8)
        return Decoded(("one", "two", "three", "four"), {"train": (images, labels)})
'''
TEXTS = '''
"""The source `counting`: a file of numbers in words."""

from sortednet_cli.data import TextSource


class Counting(TextSource):
    path = "required"
    expected = "a file of words"

    def read(self, spec, found):
        from sortednet_cli.data import Table

        words = found.read_text().split()
        return {"train": Table("counting", {"text": [" ".join(words)] * 200}, range(200))}


class Unfinished(TextSource):
    pass


class Unmade(Counting):
    def __init__(self, name):
        raise OSError("no words")
'''
POINTS = {
    "sortednet.sources": {
        "stripes": "toy_images:Stripes",
        "counting": "toy_texts:Counting",
        "unfinished": "toy_texts:Unfinished",
        "unmade": "toy_texts:Unmade",
    }
}
IMAGE_ARGUMENTS = (*TINY, "--set=data.source=stripes", "--set=train.batch_size=16")
PICO = ("hidden_size=16", "num_hidden_layers=2", "num_attention_heads=4", "intermediate_size=32")
TEXT_ARGUMENTS = (
    "--preset=pydoc-llama",
    *(f"--set=model.config.{setting}" for setting in PICO),
    *("--set=space.depth=[1, 2]", "--set=train.updates=2", "--set=train.batch_size=4"),
    *("--set=data.max_length=16", "--set=data.vocab_size=300", "--set=data.source=counting"),
)


@pytest.fixture
def toys(tmp_path: Path) -> Iterator[None]:
    sources = {"toy_images.py": IMAGES, "toy_texts.py": TEXTS}
    with installed(tmp_path, sources, POINTS) as files:
        assert files == ["toy_images.py", "toy_texts.py"]
        yield


@pytest.mark.parametrize("name", SOURCES.own)
def test_every_source_of_the_package_is_where_the_registry_says(name: str) -> None:
    kind: type[DataSource] = SOURCES.load(name, DataSource)
    assert kind.__module__.startswith(f"sortednet_cli.data.{kind.kind}")


def test_images_of_another_package(work: Path, tmp_path: Path) -> None:
    with installed(tmp_path, {"toy_images.py": IMAGES}, POINTS) as files:
        assert files == ["toy_images.py"]
        done = command("train", *IMAGE_ARGUMENTS, "--quiet")
        refused(done, 2, "images of stripes are 8x8, but these are 16x16; set data.image_size")
        done = command("train", *IMAGE_ARGUMENTS, "--set=data.image_size=8", "--quiet")
        assert (done.code, done.err) == (0, "")
        run = done.out.strip()
        facts = json.loads(command("info", run, "--json").out)
        assert (facts["data"], facts["classes"]) == ("stripes", 4)
        assert command("eval", run, "--quiet").code == 0
        planned = command("info", "--plan", *IMAGE_ARGUMENTS, "--json")
        assert (planned.code, planned.err) == (0, "")
        assert json.loads(planned.out)["unit"] == "image"
    said = "data.source: unknown source 'stripes'; the sources are digits, mnist"
    refused(command("eval", run), 2, said, "; install the package that adds it")
    for words in (["info", run], ["frontier", run], ["extract", run, "--out=cut"], ["info", "cut"]):
        done = command(*words, "--quiet")
        assert (done.code, done.err) == (0, ""), done
    assert command("extract", "cut", "--out=again", "--quiet").code == 0
    refused(command("eval", "cut"), 2, said)


def test_a_source_that_reads_nothing_is_told(work: Path, tmp_path: Path) -> None:
    nothing = IMAGES.replace("return Decoded", "Decoded")
    with installed(tmp_path, {"toy_images.py": nothing}, POINTS):
        done = command("train", *IMAGE_ARGUMENTS, "--quiet")
        refused(done, 1, "data.source: 'stripes' read no images, but None")
    assert not list(work.iterdir())


@pytest.mark.usefixtures("toys")
def test_texts_of_another_package(work: Path) -> None:
    Path("words.txt").write_text("one two three four five six seven eight nine ten")
    done = command("train", *TEXT_ARGUMENTS, "--data=words.txt", "--quiet")
    assert (done.code, done.err) == (0, "")
    assert json.loads(command("info", done.out.strip(), "--json").out)["data"] == "words.txt"
    planned = command("info", "--plan", *TEXT_ARGUMENTS, "--json")
    assert (planned.code, planned.err) == (0, "")
    assert json.loads(planned.out)["unit"] == "token"


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            [*TINY, "--set=data.source=stripe"],
            "unknown source 'stripe' (did you mean stripes?); the ",
        ),
        ([*TINY, "--set=data.source=stripe"], "pydoc, hub, counting, stripes, unfinished, unmade"),
        ([*IMAGE_ARGUMENTS, "--data=."], "data.path (or --data): stripes are drawn, not read"),
        ([*IMAGE_ARGUMENTS, "--set=data.label=x"], "data.label: unknown key"),
        (
            [*TINY, "--set=data.source=counting"],
            "data.augment: unknown key; the keys are source, path",
        ),
        ([*TEXT_ARGUMENTS], 'data.source = "counting" needs --data PATH: a file of words'),
        ([*TEXT_ARGUMENTS, "--data=no.txt"], "no.txt does not exist: a file of words"),
        (
            [*TEXT_ARGUMENTS, "--set=data.source=unfinished"],
            "sortednet.sources: 'unfinished' (toy_texts:Unfinished) lacks read",
        ),
        (
            [*TEXT_ARGUMENTS, "--set=data.source=unmade"],
            "sortednet.sources: 'unmade' (toy_texts:Unmade) failed: no words",
        ),
    ],
)
def test_wrong_requests(work: Path, arguments: list[str], said: str) -> None:
    refused(command("train", *arguments), 2, said)
    assert not list(work.iterdir())


SCRIPT = """
import json, sys
from sortednet_cli.cli.main import run
code = run(json.loads(sys.argv[1]))
print(json.dumps([code, sorted(sys.modules)]))
"""


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize("arguments", [[*IMAGE_ARGUMENTS, "--data=."], [*TEXT_ARGUMENTS]])
def test_a_source_is_asked_before_torch_is_imported(work: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(["train", *arguments])],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    code, modules = json.loads(done.stdout)
    assert code == 2
    assert {"toy_images", "toy_texts"} & set(modules)
    assert not set(HEAVY) & set(modules)
