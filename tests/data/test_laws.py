"""What holds for every data set, in memory and streamed."""

from __future__ import annotations

import dataclasses
import json
import signal
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sortednet_cli.data import ImageFormat, Images, open_images
from sortednet_cli.data.images.memory import MemoryPart
from sortednet_cli.errors import RequestError
from sortednet_cli.spec import ImageDataSpec
from tests.data.made import tree_files, write_tree

CPU = torch.device("cpu")
KINDS = ("digits", "memory", "stream", "stream-resized", "memory-resized")


def opened(kind: str, tmp_path: Path, **settings: object) -> Images:
    if kind == "digits":
        return open_images(
            ImageDataSpec.model_validate({"source": "digits", "flip": True, **settings})
        )
    storage, _, augment = kind.partition("-")
    root = tmp_path / "tree"
    if not root.exists():
        write_tree(root, tree_files())
    fields = {
        "source": "image-folder",
        "path": str(root),
        "storage": storage,
        "augment": "resized-crop" if augment else "crop",
        "crop_padding": 2,
        "flip": True,
        "workers": 0,
    }
    return open_images(ImageDataSpec.model_validate({**fields, **settings}))


def same(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> bool:
    return torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_a_pure_function_of_seed_and_index(kind: str, tmp_path: Path) -> None:
    images = opened(kind, tmp_path)
    options = {"batch_size": 4, "seed": 7, "device": CPU}
    run = list(islice(images.training_batches(0, **options), 14))
    for start in (3, 9):
        resumed = islice(opened(kind, tmp_path).training_batches(start, **options), 4)
        assert all(same(a, b) for a, b in zip(resumed, run[start:], strict=False))
    strided = islice(images.training_batches(1, stride=3, **options), 4)
    assert all(same(a, b) for a, b in zip(strided, run[1::3], strict=False))
    counted = images.training_batches(2, stride=3, count=4, **options)
    assert all(same(a, b) for a, b in zip(counted, run[2::3], strict=True))
    assert same(images.training_batch(12, **options), run[12])
    assert same(images.training_batch(2, **options), run[2])
    other = images.training_batch(2, batch_size=4, seed=8, device=CPU)
    assert not same(other, run[2])
    pixels, labels = run[0]
    image_format = images.format
    assert pixels.shape == (4, image_format.channels, *[image_format.image_size] * 2)
    assert (pixels.dtype, labels.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("kind", ["memory", "stream"])
def test_an_epoch_visits_each_sample_at_most_once(kind: str, tmp_path: Path) -> None:
    images = opened(kind, tmp_path, augment="none")
    count = images.batches_per_epoch(4)
    assert count == len(images.train) // 4
    batches = images.training_batches(0, batch_size=4, seed=0, device=CPU)
    epochs = [torch.cat([next(batches)[0] for _ in range(count)]) for _ in range(2)]
    for epoch in epochs:
        assert len(epoch.flatten(1).unique(dim=0)) == count * 4
    assert not torch.equal(*epochs)


@pytest.mark.parametrize("kind", ["digits", "memory", "stream"])
def test_parts_are_disjoint_and_always_the_same(kind: str, tmp_path: Path) -> None:
    def read(images: Images) -> list[Tensor]:
        parts = (images.train, images.validation, images.test)
        return [torch.cat([x for x, _ in part.batches(64, CPU)]).flatten(1) for part in parts]

    first = read(opened(kind, tmp_path))
    again = read(opened(kind, tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    total = torch.cat(first)
    assert len(total.unique(dim=0)) >= len(total) - (kind == "digits") * 5
    moved = read(opened(kind, tmp_path, split_seed=1))
    assert not torch.equal(moved[1], first[1])


@pytest.mark.parametrize("kind", ["memory", "stream"])
def test_batches_are_whole_in_order_and_limited_by_samples(kind: str, tmp_path: Path) -> None:
    part = opened(kind, tmp_path).test
    batches = list(part.batches(5, CPU))
    assert [len(labels) for _, labels in batches] == [5, 5, 2] and len(part) == 12
    limited = list(part.batches(5, CPU, limit=7))
    assert [len(labels) for _, labels in limited] == [5, 2]
    assert torch.equal(limited[0][0], batches[0][0])
    assert sum(len(y) for _, y in part.batches(5, CPU, limit=100)) == 12


def test_streamed_batches_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    options = {"batch_size": 4, "seed": 7, "device": CPU}
    runs, tests, states = [], [], []
    for workers in (0, 1, 2):
        images = opened("stream-resized", tmp_path, workers=workers)
        torch.manual_seed(5)
        batches = images.training_batches(2, **options)
        runs.append(list(islice(batches, 10)))
        batches.close()
        tests.append(list(images.test.batches(5, CPU)))
        states.append(torch.get_rng_state())
    for other in (1, 2):
        assert all(same(a, b) for a, b in zip(runs[0], runs[other], strict=True))
        assert all(same(a, b) for a, b in zip(tests[0], tests[other], strict=True))
    torch.manual_seed(5)
    assert all(torch.equal(state, torch.get_rng_state()) for state in states)


def test_workers_need_no_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers have little of it, and a batch that finds none never arrives."""

    def full(storage: object) -> None:
        raise RuntimeError("unable to allocate shared memory(shm)")

    monkeypatch.setattr("torch.multiprocessing.reductions.reduce_storage", full)
    monkeypatch.setattr("torch.UntypedStorage._share_filename_cpu_", full)
    monkeypatch.setattr("torch.UntypedStorage._share_fd_cpu_", full)
    images = opened("stream-resized", tmp_path, workers=2)
    signal.alarm(30)  # it would wait for ever
    try:
        found = sum(len(labels) for _, labels in images.train.batches(4, CPU))
    finally:
        signal.alarm(0)
    assert found == len(images.train)


def test_streamed_and_held_parts_are_the_same(tmp_path: Path) -> None:
    held, streamed = (opened(kind, tmp_path) for kind in ("memory", "stream"))
    assert held.format == streamed.format
    for a, b in ((held.train, streamed.train), (held.test, streamed.test)):
        pairs = zip(a.batches(7, CPU), b.batches(7, CPU), strict=True)
        assert all(same(x, y) for x, y in pairs)
    for images in (held, streamed):
        batch = images.training_batch(0, batch_size=4, seed=0, device=CPU)
        assert torch.equal(batch[1], held.training_batch(0, batch_size=4, seed=0, device=CPU)[1])


def test_training_pixels_are_normalised_and_padding_is_black(tmp_path: Path) -> None:
    images = opened("memory", tmp_path, crop_padding=8)
    pixels = torch.cat([x for x, _ in images.train.batches(64, CPU)])
    assert pixels.mean((0, 2, 3)).abs().max() < 1e-4
    assert (pixels.std((0, 2, 3)) - 1).abs().max() < 1e-2
    mean, std = (torch.tensor(v)[:, None, None] for v in (images.format.mean, images.format.std))
    batch, _ = images.training_batch(0, batch_size=20, seed=0, device=CPU)
    restored = batch * std + mean
    assert restored.min().abs() < 1e-5
    assert (restored.abs() < 1e-5).float().mean() > 0.3


def test_statistics_are_those_of_the_training_part(tmp_path: Path) -> None:
    images = opened("memory", tmp_path)
    assert isinstance(images.train, MemoryPart)
    pixels = images.train.images.double() / 255
    assert torch.allclose(torch.tensor(images.format.mean).double(), pixels.mean((0, 2, 3)))
    deviation = pixels.std((0, 2, 3), unbiased=False)
    assert torch.allclose(torch.tensor(images.format.std).double(), deviation)


def test_a_constant_channel_is_not_divided_by_zero() -> None:
    from sortednet_cli.data.images.format import channel_statistics

    assert channel_statistics(torch.full((3, 1, 4, 4), 51, dtype=torch.uint8)) == ((0.2,), (1.0,))


def test_a_batch_larger_than_the_part_is_refused(tmp_path: Path) -> None:
    images = opened("memory", tmp_path)
    message = r"train.batch_size = 28 is more than the 27 training images"
    with pytest.raises(RequestError, match=message):
        images.batches_per_epoch(28)
    with pytest.raises(RequestError, match=message):
        next(images.training_batches(0, batch_size=28, seed=0, device=CPU))
    assert images.batches_per_epoch(27) == 1


def test_the_known_format_is_used_and_survives_json(tmp_path: Path) -> None:
    found = opened("memory", tmp_path).format
    fields = json.loads(json.dumps(dataclasses.asdict(found)))
    sequences = {name: tuple(v) for name, v in fields.items() if isinstance(v, list)}
    assert ImageFormat(**{**fields, **sequences}) == found
    known = dataclasses.replace(found, mean=(0.5,) * 3, std=(0.1,) * 3, source="other")
    for storage in ("memory", "stream"):
        spec = ImageDataSpec(source="image-folder", path=str(tmp_path / "tree"), storage=storage)
        images = open_images(spec, known=known)
        assert images.format == dataclasses.replace(known, source="tree")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 1}, "3 channels, but the model was made for 1"),
        ({"image_size": 9}, "set data.image_size = 9"),
        ({"classes": ("a", "b", "x")}, "only in the data: c; only in the model: x"),
    ],
)
def test_data_that_do_not_fit_the_model(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    found = opened("memory", tmp_path).format
    known = dataclasses.replace(found, **change)  # type: ignore[arg-type]
    spec = ImageDataSpec(source="image-folder", path=str(tmp_path / "tree"))
    with pytest.raises(RequestError, match=message):
        open_images(spec, known=known)
