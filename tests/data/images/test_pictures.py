"""What pixels a file gives: those that viewers show, or an error; and what is said of it."""

from __future__ import annotations

import base64
import io
import logging
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sortednet_cli.data.images.pillow import open_image
from sortednet_cli.data.images.remarks import Remark, Remarks, summarize
from sortednet_cli.errors import RequestError
from tests.data.images.test_files import CPU, opened, tensors
from tests.data.made import png, tree_files, write_tar, write_tree

ORIENTATION = 0x0112


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def read(data: bytes, channels: int = 3) -> tuple[np.ndarray, list[Remark]]:
    remarks: Remarks = []
    image = open_image(data, "x", channels, remarks)
    assert {name for _, name in remarks} <= {"x"}
    return np.asarray(image), [remark for remark, _ in remarks]


# ---- turned


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_images_are_turned_as_their_exif_says(orientation: int, kind: str) -> None:
    """The eight ways of the EXIF standard: where row 0 and column 0 of the file are to be seen."""
    file = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    shown = {
        1: file,
        2: file[:, ::-1],
        3: file[::-1, ::-1],
        4: file[::-1],
        5: file.transpose(1, 0, 2),
        6: np.rot90(file, -1),
        7: np.rot90(file, 2).transpose(1, 0, 2),
        8: np.rot90(file),
    }
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    pixels, remarks = read(saved(Image.fromarray(file), kind, exif=exif))
    assert np.array_equal(pixels, shown[orientation]) and not remarks


def test_sizes_are_those_after_turning(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    files = {name: saved(Image.new("RGB", (8, 4)), exif=exif) for name in tree_files()}
    with pytest.raises(RequestError, match=r"000\.png is 4x8"):
        opened(write_tree(tmp_path, files))


@pytest.mark.parametrize("data", [b"II*\0\xff\xff\xff\x7f", b"MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03"])
def test_damaged_metadata_leave_the_pixels(data: bytes) -> None:
    image = Image.new("RGB", (2, 2), (1, 2, 3))
    with warnings.catch_warnings(record=True) as raw:
        pixels, remarks = read(saved(image, exif=b"Exif\0\0" + data))
    assert (pixels == (1, 2, 3)).all() and set(remarks) == {Remark.METADATA} and not raw


# ---- transparent


def _palette(**options: object) -> bytes:
    image = Image.new("P", (2, 2), 0)
    image.putpalette([10, 20, 30, 200, 0, 0])
    return saved(image, **options)  # type: ignore[arg-type]


TRANSPARENT = [
    (saved(Image.new("RGBA", (2, 2), (0, 0, 0, 0))), (255, 255, 255)),
    (saved(Image.new("RGBA", (2, 2), (100, 0, 200, 51))), (224, 204, 244)),
    (saved(Image.new("LA", (2, 2), (0, 0))), (255, 255, 255)),
    (saved(Image.new("LA", (2, 2), (55, 51))), (215, 215, 215)),
    (saved(Image.new("RGB", (2, 2), (1, 2, 3)), transparency=(1, 2, 3)), (255, 255, 255)),
    (saved(Image.new("L", (2, 2), 7), transparency=7), (255, 255, 255)),
    (saved(Image.new("1", (2, 2), 0), transparency=0), (255, 255, 255)),
    (_palette(transparency=0), (255, 255, 255)),
    (_palette(transparency=b"\x33\xff"), (206, 208, 210)),
    (_palette(kind="GIF", transparency=0), (255, 255, 255)),
    (saved(Image.new("RGBA", (2, 2), (0, 0, 0, 0)), "WEBP", lossless=True), (255, 255, 255)),
]


@pytest.mark.parametrize(("data", "colour"), TRANSPARENT)
def test_transparent_pixels_lie_on_white(data: bytes, colour: tuple[int, int, int]) -> None:
    pixels, remarks = read(data)
    assert (pixels == colour).all() and remarks == [Remark.TRANSPARENT]
    if len(set(colour)) == 1:
        pixels, remarks = read(data, channels=1)
        assert pixels.shape == (2, 2) and (pixels == colour[0]).all()
        assert remarks == [Remark.TRANSPARENT]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_opaque_alpha_is_nothing_to_speak_of(mode: str) -> None:
    image = Image.new("RGB", (2, 2), (9, 9, 9)).convert(mode)
    pixels, remarks = read(saved(image))
    assert (pixels == 9).all() and not remarks


# ---- several frames


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_the_first_of_several_frames(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    pixels, remarks = read(saved(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert np.abs(pixels.astype(int) - (255, 0, 0)).max() <= 2
    # The pictures of an MPO beside the first are previews of it.
    assert remarks == ([] if kind == "MPO" else [Remark.FRAMES])


# ---- more than 8 bits


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _deep_png(colour_type: int, channels: int) -> bytes:
    header = struct.pack(">IIBBBBB", 4, 4, 16, colour_type, 0, 0, 0)
    pixels = zlib.compress(bytes(4 * (1 + 8 * channels)))
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _deep_tiff(zipped: bool) -> bytes:
    """A TIFF of 4 x 4 pixels and three channels of 16 bits, with one strip after its tags."""
    data = zlib.compress(bytes(96)) if zipped else bytes(96)
    start = 8 + 2 + 12 * 9 + 4
    short = {256: 4, 257: 4, 259: 8 if zipped else 1, 262: 2, 277: 3, 278: 4}
    tags = {tag: (3, 1, value) for tag, value in short.items()}
    tags |= {258: (3, 3, start), 273: (4, 1, start + 6), 279: (4, 1, len(data))}
    entries = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags))
    bits = struct.pack("<HHH", 16, 16, 16)
    return b"II*\0" + struct.pack("<IH", 8, 9) + entries + bytes(4) + bits + data


def _deep_jpeg2000() -> bytes:
    data = bytearray(saved(Image.new("RGB", (8, 8)), "JPEG2000"))
    first = data.index(b"\xff\x4f\xff\x51") + 42
    data[first : first + 9 : 3] = bytes((15, 15, 15))
    return bytes(data)


# 4 x 4 pixels of 10 bits, as avifenc would write them.
_DEEP_AVIF = base64.b64decode(
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAA"
    "AAAAAAAAAAAAAAAAAAAOcGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAAHwAAAChpaW5mAAAA"
    "AAABAAAAGmluZmUCAAAAAAEAAGF2MDFDb2xvcgAAAABqaXBycAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAABAAAAAQA"
    "AAAQcGl4aQAAAAADCgoKAAAADGF2MUOBIEAAAAAAE2NvbHJuY2x4AAIAAgAGgAAAABdpcG1hAAAAAAAAAAEAAQQB"
    "AoMEAAAAJ21kYXQSAAoIOAR9vAgIGkAyERlCYwTAADQAAACQP5sMYJFg"
)
DEEP = {
    "png-rgb": _deep_png(2, 3),
    "png-gray-alpha": _deep_png(4, 2),
    "png-rgba": _deep_png(6, 4),
    "png-gray": _deep_png(0, 1),
    "tiff": _deep_tiff(zipped=False),
    "tiff-zipped": _deep_tiff(zipped=True),
    "ppm": b"P6\n2 2\n65535\n" + bytes(24),
    "ppm-of-10-bits": b"P6\n2 2\n1023\n" + bytes(24),
    "ppm-text": b"P3\n1 1\n65535\n1 2 3\n",
    "pfm": b"Pf\n1 1\n-1.0\n" + bytes(12),
    "sgi": saved(Image.new("RGB", (4, 4)), "SGI", bpc=2),
    "jpeg2000": _deep_jpeg2000(),
    "avif": _DEEP_AVIF,
}


@pytest.mark.parametrize("kind", DEEP)
def test_more_than_8_bits_are_refused_not_cut(kind: str) -> None:
    with pytest.raises(RequestError, match=r"^x has more than 8 bits per channel"):
        read(DEEP[kind])


def test_8_bits_and_fewer_are_read() -> None:
    coded = struct.pack("<IiiHHIIiiIIIII", 40, 2, 2, 1, 16, 3, 8, 0, 0, 0, 0, 0xF800, 0x7E0, 0x1F)
    bmp = b"BM" + struct.pack("<IHHI", 74, 0, 0, 66) + coded + b"\xff\xff" * 4
    for data in (bmp, b"P6\n2 2\n255\n" + b"\xff" * 12, saved(Image.new("1", (2, 2), 1))):
        assert (read(data)[0] == 255).all()
    for kind in ("JPEG2000", "AVIF", "SGI", "TIFF"):
        assert read(saved(Image.new("RGB", (8, 8), "white"), kind))[0].min() > 250


# ---- unreadable


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"<html>not found</html>", "Pillow does not know its format"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
            "does not know its format",
        ),
        (png(0)[:60], "truncated"),
        (saved(Image.fromarray(np.eye(64, dtype=np.uint8) * 255), "JPEG")[:400], "truncated"),
    ],
)
def test_unreadable_files_say_why(data: bytes, reason: str) -> None:
    with pytest.raises(RequestError, match=f"^x is not a readable image: .*{reason}") as e:
        read(data)
    assert "0x" not in str(e.value)


# ---- what is said


def test_remarks_are_counted() -> None:
    remarks = [(Remark.FRAMES, "a.gif"), (Remark.TRANSPARENT, "b.png")]
    remarks += [(Remark.TRANSPARENT, "c.png"), (Remark.TRANSPARENT, "c.png")]
    assert summarize(remarks) == (
        "2 images with transparent pixels, blended over white: b.png, ...",
        "1 image with several frames or pages, of which the first is used: a.gif",
    )


@pytest.mark.parametrize("form", ["folder", "tar", "stream"])
def test_what_was_made_of_images_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    files = tree_files()
    clear = saved(Image.new("RGBA", (8, 8), (0, 0, 0, 0)))
    files |= {"test/a/000.png": clear, "test/b/001.png": clear}
    root = write_tree(tmp_path / "data", files)
    path = write_tar(tmp_path / "data.tar", files) if form == "tar" else root
    line = "images with transparent pixels, blended over white: "
    for _ in range(2):  # from the cache too
        caplog.clear()
        with caplog.at_level(logging.WARNING, "sortednet"):
            images = opened(path, storage="stream" if form == "stream" else "auto", workers=2)
            for part in (images.train, images.validation, images.test):
                list(part.batches(64, CPU))
        (told,) = caplog.messages
        if form == "stream":
            assert told.startswith(f"{path}: {line}test/") and told.endswith(".png, ...")
        else:
            assert told == f"{path}: 2 {line}test/a/000.png, ..."


def test_the_cache_is_keyed_by_content(tmp_path: Path) -> None:
    """Files out of reproducible archives have equal names, sizes and times."""
    found = []
    for seed in (0, 1):
        random = np.random.default_rng(seed)
        pixels = {name: random.integers(0, 256, (8, 8, 3), dtype=np.uint8) for name in tree_files()}
        files = {name: saved(Image.fromarray(x), "BMP") for name, x in pixels.items()}
        root = write_tree(tmp_path / str(seed), files)
        for name in files:
            os.utime(root / name, (0, 0))
        found.append(tensors(opened(root)))
    assert not torch.equal(found[0][0], found[1][0])
    assert len(list((tmp_path / "cache" / "images").iterdir())) == 2
    (tmp_path / "0").rename(tmp_path / "elsewhere")
    assert torch.equal(tensors(opened(tmp_path / "elsewhere"))[0], found[0][0])
    assert len(list((tmp_path / "cache" / "images").iterdir())) == 2
