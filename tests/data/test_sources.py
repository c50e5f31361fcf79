"""Each source in each form it may come in, and what is said when it does not."""

from __future__ import annotations

import gzip
import hashlib
import pickle
from pathlib import Path
from socket import gaierror
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import Tensor

from sortednet_cli.data import Images, open_images
from sortednet_cli.data.images.memory import MemoryPart
from sortednet_cli.errors import RequestError, WorkError
from sortednet_cli.spec import ImageDataSpec
from tests.data.made import idx_bytes, png, tree_files, write_idx, write_tar, write_tree


def opened(source: str, path: Path | None = None, **settings: object) -> Images:
    fields = {"source": source, "path": None if path is None else str(path), **settings}
    return open_images(ImageDataSpec.model_validate(fields))


def pixels(part: object) -> Tensor:
    assert isinstance(part, MemoryPart)
    return part.images


def sorted_rows(images: Tensor) -> Tensor:
    return images.flatten(1).unique(dim=0)


def test_digits_are_all_there() -> None:
    images = opened("digits")
    sizes = (len(images.train), len(images.validation), len(images.test))
    assert sum(sizes) == 1797
    assert abs(sizes[1] - 180) < 6 and abs(sizes[2] - 359) < 6
    assert images.format.source == "digits"
    assert pixels(images.train).max() == 255


def test_digits_take_no_path(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="image-folder"):
        opened("digits", tmp_path)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("inner", ["", "FashionMNIST/raw", "raw"])
def test_idx_files(tmp_path: Path, inner: str, zipped: bool) -> None:
    root = tmp_path / "fashion"
    arrays = write_idx(root / inner, zipped=zipped)
    images = opened("fashion-mnist", root)
    assert images.format.source == "fashion"
    assert images.format.classes[9] == "Ankle boot"
    assert (len(images.train), len(images.validation), len(images.test)) == (40, 10, 20)
    expected = torch.from_numpy(arrays["t10k-images-idx3"])[:, None]
    assert torch.equal(sorted_rows(pixels(images.test)), sorted_rows(expected))


def test_idx_images_are_resized_on_demand_only(tmp_path: Path) -> None:
    write_idx(tmp_path, size=12)
    with pytest.raises(RequestError, match=r"are 28x28, but these are 12x12; set data.image_size"):
        opened("mnist", tmp_path)
    images = opened("mnist", tmp_path, image_size=6)
    assert pixels(images.train).shape == (40, 1, 6, 6)
    assert opened("mnist", tmp_path, image_size=12).format.image_size == 12


def damage_missing(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte").unlink()


def damage_truncated(folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])


def damage_longer(folder: Path) -> None:
    path = folder / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes() + b"x")


def damage_gzip(folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte"
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes())[:-50])
    path.unlink()


def damage_header(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte").write_bytes(b"\x80\x04pickle, perhaps")


def damage_sizes(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + b"\xff" * 12)


def damage_counts(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(3)))


def damage_labels(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.full(50, 10)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_missing, "has no t10k-labels-idx1-ubyte"),
        (damage_truncated, "train-images-idx3-ubyte is truncated or damaged"),
        (damage_longer, "train-labels-idx1-ubyte is truncated or damaged"),
        (damage_gzip, "train-images-idx3-ubyte.gz cannot be read"),
        (damage_header, "not an idx file"),
        (damage_sizes, "damaged header"),
        (damage_counts, "do not belong together"),
        (damage_labels, "the label 10, but the labels of 10 classes are 0 to 9"),
    ],
)
def test_damaged_idx_files(tmp_path: Path, damage: object, message: str) -> None:
    write_idx(tmp_path)
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(RequestError, match=message):
        opened("mnist", tmp_path)


@pytest.mark.parametrize("inside", [False, True])
def test_cifar_is_not_unpickled_before_its_checksum(tmp_path: Path, inside: bool) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("data_batch_1", "test_batch", "batches.meta"):
        (folder / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(RequestError, match="does not hold the published files"):
        opened("cifar10", folder if inside else tmp_path)


@pytest.mark.parametrize("source", ["cifar10", "cifar100"])
def test_cifar_as_torchvision_keeps_it(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[source]
    count = {"cifar10": 10, "cifar100": 100}[source]
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    contents = {kind.meta["filename"]: {kind.meta["key"]: [f"c{i:03}" for i in range(count)]}}
    random = np.random.default_rng(0)
    for name, _ in (*kind.train_list, *kind.test_list):
        data = random.integers(0, 256, (count * 3, 3072), dtype=np.uint8)
        key = "labels" if source == "cifar10" else "fine_labels"
        contents[name] = {"data": data, key: list(range(count)) * 3}
    sums = {}
    for name, content in contents.items():
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        sums[name] = hashlib.md5(data).hexdigest()
    for parts in ("train_list", "test_list"):
        monkeypatch.setattr(kind, parts, [[name, sums[name]] for name, _ in getattr(kind, parts)])
    name = kind.meta["filename"]
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": sums[name]})
    images = opened(source, tmp_path)
    assert images.format.source == source
    assert images.format.classes[3] == "c003"
    assert len(images.test) == 3 * count
    rows = torch.from_numpy(contents[kind.test_list[0][0]]["data"])
    assert torch.equal(sorted_rows(pixels(images.test)), rows.unique(dim=0))


@pytest.mark.parametrize("source", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_a_failed_download_says_what_to_pass(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    def offline(*_: object, **__: object) -> None:
        raise URLError(gaierror(-2, "Name or service not known"))

    for name in ("MNIST", "FashionMNIST", "CIFAR10", "CIFAR100"):
        monkeypatch.setattr(datasets, name, offline)
    said = r"could not be downloaded \(Name or service not known\): pass --data PATH, a folder"
    with pytest.raises(WorkError, match=f"^{source} {said}"):
        opened(source)


def test_a_downloaded_set_is_read_from_the_cache(cache: Path) -> None:
    write_idx(cache / "torchvision" / "MNIST" / "raw")
    assert opened("mnist").format.source == "mnist"


def test_named_sources_take_trees_with_their_own_channels(tmp_path: Path) -> None:
    files = tree_files({"train": 4, "test": 2}, classes="0123456789", size=28)
    tar = write_tar(tmp_path / "my-mnist.tar", files)
    images = opened("mnist", tar)
    assert images.format.channels == 1
    assert images.format.source == "my-mnist.tar"
    with pytest.raises(RequestError, match=r"differ in size: .* others are 32x32"):
        opened("cifar10", tar)
    few = write_tree(tmp_path / "few", tree_files(size=32))
    with pytest.raises(RequestError, match=r"cifar10 has 10 classes, but few has 3 \(a, b, c\)"):
        opened("cifar10", few)


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        ("image-folder", {}, "needs --data PATH"),
        ("digits", {"storage": "stream"}, "needs a folder of image files"),
        ("digits", {"image_size": 4096}, "decodes to more than 2 GiB"),
    ],
)
def test_requests_that_cannot_be_met(
    source: str, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        opened(source, **settings)


def test_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"gone does not exist: expected train/CLASS/"):
        opened("image-folder", tmp_path / "gone")


def test_the_cache_folder_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    from sortednet_cli.storage.cache import cache_folder

    monkeypatch.delenv("SORTEDNET_CACHE")
    assert cache_folder().name == "sortednet"


def test_auto_storage_streams_what_memory_should_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sortednet_cli.data.images import locate

    monkeypatch.setattr(locate, "MEMORY_LIMIT", 42 * 8 * 8 * 3 - 1)
    root = write_tree(tmp_path / "tree", tree_files())
    assert not isinstance(opened("image-folder", root, workers=0).train, MemoryPart)
    assert isinstance(opened("image-folder", root, storage="memory").train, MemoryPart)
    tar = write_tar(tmp_path / "tree.tar", tree_files())
    with pytest.raises(RequestError, match="unpack it into a folder"):
        opened("image-folder", tar)
    (root / "train" / "a" / "000.png").write_bytes(png(0)[:10])
    with pytest.raises(RequestError, match=r"train/a/000\.png is not a readable image"):
        opened("image-folder", root, workers=0)
