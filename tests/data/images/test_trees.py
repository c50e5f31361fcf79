"""What a tree of files means: its parts, its classes, and what is left out of it."""

from __future__ import annotations

import dataclasses
import logging
import unicodedata
from pathlib import Path

import pytest
import torch

from sortednet_cli.data import open_images
from sortednet_cli.data.images.layout import Layout, lay_out
from sortednet_cli.data.images.names import part_of
from sortednet_cli.data.images.tree import Listing
from sortednet_cli.errors import RequestError
from sortednet_cli.spec import ImageDataSpec
from tests.data.images.test_files import CPU, opened
from tests.data.made import png, tree_files, write_tar, write_tree

NFC = unicodedata.normalize("NFC", "café")
NFD = unicodedata.normalize("NFD", NFC)


def laid_out(*names: str, folders: tuple[str, ...] = ()) -> Layout:
    listing = Listing(folders=set(folders))
    for name in names:
        assert listing.add_file(name)
    return lay_out(listing, "tree")


def images(*folders: str) -> list[str]:
    return [f"{folder}/{number}.png" for folder in folders for number in range(3)]


def refused(message: str, *names: str, folders: tuple[str, ...] = ()) -> None:
    with pytest.raises(RequestError, match=message):
        laid_out(*names, folders=folders)


# ---- parts


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"),
        ("Train", "train"),
        ("TRAINING", "train"),
        ("training_set", "train"),
        ("Train images", "train"),
        ("val", "validation"),
        ("Valid", "validation"),
        ("validation-data", "validation"),
        ("dev", "validation"),
        ("Testing", "test"),
        ("test_set", "test"),
        ("trains", None),
        ("train_station", None),
        ("seg_train", None),
        ("train_test", None),
        ("images", None),
        ("contest", None),
    ],
)
def test_names_of_parts(name: str, part: str | None) -> None:
    assert part_of(name) == part


@pytest.mark.parametrize(
    "folders",
    [
        ("Train", "Test"),
        ("training", "testing"),
        ("TRAIN", "valid"),
        ("training_set/training_set", "test_set/test_set"),
        ("archive/data/Train", "archive/data/Test"),
    ],
)
def test_folders_in_the_manner_of_parts(folders: tuple[str, str]) -> None:
    layout = laid_out(*images(*(f"{folder}/{label}" for folder in folders for label in "ab")))
    assert layout.classes == ("a", "b") and not layout.notes
    assert {part: len(samples) for part, samples in layout.parts.items()} == {"train": 6, "test": 6}
    assert all(s.name.startswith(folders[1]) for s in layout.parts["test"])


def test_a_class_may_be_called_train() -> None:
    """A part would hold class folders; the classes of COCO are bus, car, train, ..."""
    assert laid_out(*images("bus", "car", "train")).classes == ("bus", "car", "train")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("Train/a", "training/a"), "has 2 train folders: Train, training"),
        (("Train/a", "Train/b", "cat", "dog"), r"Train may be the training part, or a class .*cat"),
        (("seg_train/a", "seg_test/a"), "seg_test, seg_train may be parts or classes: rename"),
        (("Test/a", "Test/b"), "has Test but no train folder"),
        (("train", "test", "extra"), r"train: train/0\.png is not in a class folder"),
    ],
)
def test_what_can_be_read_in_two_ways(folders: tuple[str, ...], message: str) -> None:
    refused(message, *images(*folders))


# ---- classes


def test_a_part_may_lack_classes_of_train() -> None:
    names = images("train/a", "train/b", "train/c", "val/c", "test/b")
    layout = laid_out(*names, folders=("test/a",))
    assert layout.classes == ("a", "b", "c")
    assert {sample.label for sample in layout.parts["test"]} == {1}
    assert {sample.label for sample in layout.parts["validation"]} == {2}
    assert layout.notes == (
        "val has no images of 2 of 3 classes: a, b",
        "test has no images of 2 of 3 classes: a, c",
    )
    refused("class folders without images: d", *names, folders=("test/d",))
    refused(
        "test has classes that train lacks: d; its classes are a, b, c", *names, *images("test/d")
    )


def test_forms_of_accents_are_one_name() -> None:
    layout = laid_out(*images(f"train/{NFD}", "train/tea", f"test/{NFC}"))
    assert layout.classes == (NFC, "tea")
    assert {sample.label for sample in layout.parts["test"]} == {0}


@pytest.mark.parametrize(
    ("names", "both"),
    [
        (("Cat", "cat"), "'Cat', 'cat'"),
        ((NFC, NFD), r"'cafe\\u0301', 'caf\\xe9'"),
        (("dog", "dog "), "'dog', 'dog '"),
    ],
)
def test_class_folders_that_look_alike(names: tuple[str, str], both: str) -> None:
    refused(f"class folders look alike: {both}", *images(*names, "x"))
    if names != (NFC, NFD):
        one, other = names
        refused(f"{both} look alike", *images(f"train/{one}", "train/x", f"test/{other}"))


def test_letters_are_told_apart_by_case() -> None:
    assert laid_out(*images("A", "a")).classes == ("A", "a")


@pytest.mark.parametrize("storage", ["memory", "stream"])
def test_a_model_scores_data_with_some_of_its_classes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, storage: str
) -> None:
    """Labels go by the names of the model's classes, whatever their order and however few."""
    known = opened(write_tree(tmp_path / "made", tree_files({"": 6}))).format
    known = dataclasses.replace(known, classes=("c", "a", NFD, "b"), num_classes=4)
    root = write_tree(tmp_path / "few", tree_files({"train": 3, "test": 2}, classes="b"))
    (root / "test" / NFC).mkdir()
    (root / "test" / NFC / "0.png").write_bytes(png(5))
    (root / "train" / NFC).mkdir()
    (root / "train" / NFC / "0.png").write_bytes(png(6))
    fields = {"source": "image-folder", "path": str(root), "storage": storage, "workers": 0}
    spec = ImageDataSpec.model_validate(fields)
    with caplog.at_level(logging.WARNING, "sortednet"):
        found = open_images(spec, known=known)
    assert found.format == dataclasses.replace(known, source="few")
    assert caplog.messages == ["few: no images of 2 of 4 classes: c, a"]
    labels = torch.cat([labels for _, labels in found.test.batches(64, CPU)])
    assert sorted(labels.tolist()) == [2, 3, 3]
    with pytest.raises(RequestError, match="only in the data: b; only in the model: x"):
        open_images(spec, known=dataclasses.replace(known, classes=("x", "a", NFD, "c")))


# ---- what is left out


def test_what_is_no_image_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {f"{label}/{number}.JPG": png(number) for label in "ab" for number in range(8)}
    files |= {f"a/{number}.jfif": png(number) for number in range(20, 25)}
    files |= {"a/1.txt": b"", "b/1.TXT": b"", "b/notes": b"", "labels.csv": b"", "b/2.heic": b""}
    files |= {".git/a/1.png": b"", "b/.hidden.png": b"", "a/.ipynb_checkpoints/1.png": b""}
    files |= {"__MACOSX/a/._1.png": b"", "a/._2.JPG": b"", "Thumbs.db": b"", "a/.DS_Store": b""}
    tree, tar = write_tree(tmp_path / "tree", files), write_tar(tmp_path / "tree.tar", files)
    with caplog.at_level(logging.WARNING, "sortednet"):
        for path in (tree, tar, tar):
            found = opened(path)
            assert len(found.train) + len(found.validation) + len(found.test) == 21
    line = (
        "ignored files that are not images: 2 .txt, 1 .csv, 1 .heic, 1 without suffix;"
        " hidden files: .git, a/.ipynb_checkpoints, b/.hidden.png"
    )
    assert caplog.messages == [f"{path}: {line}" for path in (tree, tar, tar)]


def test_a_class_of_files_that_are_left_out() -> None:
    listing = Listing(folders={"a", "b"})
    for name in ("a/1.png", "b/1.heic", "b/2.heic"):
        listing.add_file(name)
    with pytest.raises(RequestError, match=r"without images: b \(ignored .*2 \.heic\)"):
        lay_out(listing, "tree")


def test_names_of_any_bytes(tmp_path: Path) -> None:
    """Latin-1 names are no UTF-8, and every system has them somewhere; JSON cannot hold them."""
    refused(
        r"tree: the name of the class folder 'caf\\udce9' is not UTF-8", *images("caf\udce9", "tea")
    )
    files = tree_files({"": 6}, classes="ab") | {"a/caf\udce9 1.png": png(77)}
    found = opened(write_tree(tmp_path / "tree", files))
    assert len(found.train) + len(found.validation) + len(found.test) == 13


def test_a_zip_is_told_from_a_tar(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(RequestError, match="it is a zip: unpack it into a folder"):
        opened(path)
