"""Folders and tars of image files: layouts, sizes and the cache."""

from __future__ import annotations

import io
import logging
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from sortednet_cli.data import Images, open_images
from sortednet_cli.data.images import decode, pillow
from sortednet_cli.data.images.memory import MemoryPart
from sortednet_cli.errors import RequestError
from sortednet_cli.spec import ImageDataSpec
from tests.data.made import png, tree_files, write_tar, write_tree

CPU = torch.device("cpu")


def opened(path: Path, **settings: object) -> Images:
    fields = {"source": "image-folder", "path": str(path), "workers": 0, **settings}
    return open_images(ImageDataSpec.model_validate(fields))


def tensors(images: Images) -> list[torch.Tensor]:
    found = []
    for part in (images.train, images.validation, images.test):
        assert isinstance(part, MemoryPart)
        found += [part.images, part.labels]
    return found


def equal(one: Images, other: Images) -> bool:
    pairs = zip(tensors(one), tensors(other), strict=True)
    return one.format.classes == other.format.classes and all(torch.equal(*p) for p in pairs)


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz", "tar.bz2"])
@pytest.mark.parametrize("wrapper", ["", "./", "wrapped/"])
def test_a_tar_equals_its_folder(tmp_path: Path, suffix: str, wrapper: str) -> None:
    files = tree_files()
    folder = opened(write_tree(tmp_path / "tree", files))
    backwards = {f"{wrapper}{name}": data for name, data in reversed(files.items())}
    mode = f"w:{suffix.partition('.')[2]}"
    tar = opened(write_tar(tmp_path / f"tree.{suffix}", backwards, mode))
    assert equal(folder, tar)
    assert (folder.format.source, tar.format.source) == ("tree", f"tree.{suffix}")


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        ({"": 10}, (21, 3, 6)),
        ({"train": 10}, (21, 3, 6)),
        ({"train": 10, "test": 2}, (27, 3, 6)),
        ({"train": 10, "val": 2}, (27, 3, 6)),
        ({"train": 10, "valid": 2, "test": 3}, (30, 6, 9)),
        ({"train": 10, "validation": 3, "test": 2}, (30, 9, 6)),
    ],
)
def test_layouts(tmp_path: Path, parts: dict[str, int], sizes: tuple[int, int, int]) -> None:
    images = opened(write_tree(tmp_path, tree_files(parts)))
    assert (len(images.train), len(images.validation), len(images.test)) == sizes
    assert images.format.classes == ("a", "b", "c")


def test_labels_follow_the_sorted_class_folders(tmp_path: Path) -> None:
    files = {}
    for label, name in enumerate("abc"):
        for number in range(10):
            buffer = io.BytesIO()
            Image.new("RGB", (4, 4), (label * 50, number, 0)).save(buffer, "PNG")
            files[f"{name}/deeper/{number}.png"] = buffer.getvalue()
    images = opened(write_tree(tmp_path, files))
    for part in (images.train, images.validation, images.test):
        assert isinstance(part, MemoryPart)
        assert torch.equal(part.images[:, 0, 0, 0] // 50, part.labels)


def test_hidden_and_foreign_files_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = tree_files()
    extra = {
        "README.md": b"hello",
        "train/a/._000.png": b"resource fork",
        ".git/a/000.png": b"hidden",
        "__MACOSX/train/a/000.png": b"left over",
        "extra/a/000.png": png(99),
    }
    plain = opened(write_tree(tmp_path / "plain", files))
    with caplog.at_level(logging.WARNING, "sortednet"):
        assert equal(plain, opened(write_tree(tmp_path / "tree", {**files, **extra})))
        assert equal(plain, opened(write_tar(tmp_path / "tree.tar", {**files, **extra})))
    assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == [
        "ignored files that are not images: 1 .md; hidden files: .git",
        "ignored 1 image beside train, test: extra",
    ] * 2


def test_links_are_followed_but_not_round_in_circles(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", tree_files({"train": 10}))
    (root / "train").rename(tmp_path / "elsewhere")
    (root / "train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "a" / "loop").symlink_to(tmp_path / "elsewhere")
    images = opened(root)
    assert images.format.classes == ("a", "b", "c")


def without_train(files: dict[str, bytes]) -> None:
    for name in [name for name in files if name.startswith("train")]:
        del files[name]


def no_images(files: dict[str, bytes]) -> None:
    files.clear()
    files["a/readme.txt"] = b"nothing to see"


def loose_image(files: dict[str, bytes]) -> None:
    files["train/loose.png"] = png(0)


def other_test_class(files: dict[str, bytes]) -> None:
    files["test/d/0.png"] = png(0)


def one_class(files: dict[str, bytes]) -> None:
    for name in [name for name in files if "/a/" not in name]:
        del files[name]


def two_validations(files: dict[str, bytes]) -> None:
    files["val/a/0.png"] = files["valid/a/0.png"] = png(0)


def other_size(files: dict[str, bytes]) -> None:
    files["train/b/003.png"] = png(0, 6, 9)


def not_square(files: dict[str, bytes]) -> None:
    for name in files:
        files[name] = png(0, 6, 9)


def cut_short(files: dict[str, bytes]) -> None:
    files["train/b/003.png"] = png(0)[:100]


def no_image_at_all(files: dict[str, bytes]) -> None:
    files["train/b/003.png"] = b"<html>not found</html>"


def deep_gray(files: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    Image.new("I;16", (8, 8), 40000).save(buffer, "PNG")
    files["train/b/003.png"] = buffer.getvalue()


def too_large(files: dict[str, bytes]) -> None:
    files["train/b/003.png"] = png(0, 40, 40)


BAD_TREES = [
    (without_train, "has test but no train folder"),
    (no_images, r"holds no images \(ignored .*1 .txt\): expected train/CLASS/"),
    (loose_image, "train/loose.png is not in a class folder"),
    (other_test_class, "test has classes that train lacks: d; its classes are a, b, c"),
    (one_class, "only one class, a"),
    (two_validations, "2 validation folders: val, valid"),
    (
        other_size,
        r"differ in size: train/b/003.png is 6x9, but others are 8x8; set data.image_size",
    ),
    (not_square, r"not square: (train|test)/a/000.png is 6x9; set data.image_size"),
    (cut_short, "train/b/003.png is not a readable image"),
    (no_image_at_all, "train/b/003.png is not a readable image"),
    (deep_gray, "train/b/003.png has more than 8 bits per channel"),
    (too_large, "train/b/003.png has more than 0 million pixels"),
]


@pytest.mark.parametrize("form", ["folder", "tar", "stream"])
@pytest.mark.parametrize(("spoil", "message"), BAD_TREES)
def test_bad_trees(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    spoil: Callable[[dict[str, bytes]], None],
    message: str,
) -> None:
    monkeypatch.setattr(pillow, "MAX_PIXELS", 1000)
    files = tree_files()
    spoil(files)
    with pytest.raises(RequestError, match=message):
        if form == "tar":
            opened(write_tar(tmp_path / "tree.tar", files))
        else:
            images = opened(
                write_tree(tmp_path / "tree", files),
                storage="stream" if form == "stream" else "auto",
            )
            for part in (images.train, images.validation):
                list(part.batches(64, CPU))


def test_a_bad_file_keeps_its_message_out_of_a_worker(tmp_path: Path) -> None:
    root = write_tree(tmp_path, tree_files())
    images = opened(root, storage="stream", workers=2)
    for path in (root / "test").rglob("*.png"):
        path.write_bytes(b"gone bad")
    with pytest.raises(RequestError, match=r"^test/./...\.png is not a readable image"):
        list(images.test.batches(4, CPU))


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_a_class_folder_without_images(tmp_path: Path, form: str) -> None:
    root = write_tree(tmp_path / "tree", tree_files())
    (root / "train" / "empty").mkdir()
    if form == "tar":
        with tarfile.open(tmp_path / "tree.tar", "w") as tar:
            tar.add(root, "tree")
        root = tmp_path / "tree.tar"
    with pytest.raises(RequestError, match="class folders without images: empty"):
        opened(root)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="holds no images"):
        opened(tmp_path)


def test_resizing_keeps_the_middle(tmp_path: Path) -> None:
    files = tree_files()
    buffer = io.BytesIO()
    wide = Image.new("RGB", (30, 10), (255, 0, 0))
    wide.paste((0, 255, 0), (10, 0, 20, 10))
    wide.save(buffer, "PNG")
    files["train/a/000.png"] = buffer.getvalue()
    root = write_tree(tmp_path, files)
    images = opened(root, image_size=5)
    assert images.format.image_size == 5
    found = torch.cat([t for t in tensors(images) if t.ndim == 4])
    green = torch.tensor([0, 255, 0], dtype=torch.uint8)[:, None, None]
    assert (found[..., 1:-1] == green).flatten(1).all(1).any()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_modes_are_converted(tmp_path: Path, mode: str) -> None:
    files = tree_files()
    buffer = io.BytesIO()
    kind = "JPEG" if mode == "CMYK" else "PNG"
    Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(buffer, kind)
    files[f"train/a/000.{kind.lower()}"] = buffer.getvalue()
    assert opened(write_tree(tmp_path, files)).format.channels == 3


def test_the_second_opening_decodes_nothing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar = write_tar(tmp_path / "data.tar", tree_files())
    root = write_tree(tmp_path / "tree", tree_files())
    first = [opened(path) for path in (tar, root)]
    assert len(list((cache / "images").iterdir())) == 2
    with monkeypatch.context() as patched:
        patched.setattr(decode.ImageDecoder, "__call__", None)
        assert all(equal(opened(p), f) for p, f in zip((tar, root), first, strict=True))
        # The split is no part of what is stored.
        assert not equal(opened(tar, split_seed=1), first[0])
    assert opened(tar, image_size=4).format.image_size == 4
    (root / "train" / "a" / "000.png").write_bytes(png(1234))
    assert not equal(opened(root), first[1])


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_cache_file_is_rebuilt(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    tar = write_tar(tmp_path / "data.tar", tree_files())
    first = opened(tar)
    (path,) = (cache / "images").iterdir()
    data = bytearray(path.read_bytes())
    data[-20] ^= 255
    damaged = {"cut": data[:-9], "flip": data, "empty": b"", "text": b"x" * 99}[damage]
    path.write_bytes(damaged)
    with caplog.at_level(logging.WARNING, "sortednet"):
        assert equal(opened(tar), first)
    assert "is damaged" in caplog.text
    caplog.clear()
    assert equal(opened(tar), first)
    assert not caplog.text


def test_a_cache_that_cannot_be_written_is_a_warning(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file where a folder should be")
    with caplog.at_level(logging.WARNING, "sortednet"):
        assert len(opened(write_tree(tmp_path / "tree", tree_files())).train) == 27
    assert "could not be cached" in caplog.text


def test_streaming_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"unpack data\.tar first"):
        opened(write_tar(tmp_path / "data.tar", tree_files()), storage="stream")
