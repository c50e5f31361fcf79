"""Tars of image files: broken, hostile, and larger than their bounds."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from sortednet_cli.data.images import archive
from sortednet_cli.errors import RequestError
from tests.data.images.test_files import opened
from tests.data.made import tree_files, write_tar


@pytest.mark.parametrize("data", [b"", b"no tar", b"PK\x03\x04 a zip", b"\x1f\x8b broken gzip"])
def test_a_file_that_is_no_tar(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "data.tar"
    path.write_bytes(data)
    with pytest.raises(RequestError, match=r"data\.tar is not a readable tar"):
        opened(path)


@pytest.mark.parametrize("suffix", ["", ":gz", ":xz", ":bz2"])
@pytest.mark.parametrize("keep", [0.3, 0.8, 512 * 5])
def test_a_tar_that_is_cut_short(tmp_path: Path, suffix: str, keep: float) -> None:
    path = write_tar(tmp_path / "data.tar", tree_files(), f"w{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(keep if keep > 1 else keep * len(data))])
    with pytest.raises(RequestError):
        opened(path)


def test_a_tar_with_a_damaged_header_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "data.tar", tree_files())
    data = bytearray(path.read_bytes())
    place = data.rindex(b"test/b/000.png")
    data[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    with pytest.raises(RequestError, match="truncated or damaged"):
        opened(path)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "hostile",
    [
        member("/etc/passwd.png"),
        member("../escape.png"),
        member("train/a/../../../escape.png"),
        member("..\\escape.png"),
        member("C:/escape.png"),
        member("train/a/link.png", tarfile.SYMTYPE, "/etc/passwd"),
        member("train/a/hard.png", tarfile.LNKTYPE, "train/a/000.png"),
        member("train/a/null.png", tarfile.CHRTYPE),
        member("train/a/disk.png", tarfile.BLKTYPE),
        member("train/a/pipe.png", tarfile.FIFOTYPE),
        member("train/a/000.png"),
        member("notes/..", tarfile.DIRTYPE),
    ],
    ids=lambda info: info.name,
)
@pytest.mark.parametrize("first", [False, True])
def test_hostile_members_refuse_the_whole_tar(
    tmp_path: Path, cache: Path, hostile: tarfile.TarInfo, first: bool
) -> None:
    path = tmp_path / "data.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        if first and hostile.name != "train/a/000.png":
            tar.addfile(hostile)
        for name, data in tree_files().items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        if not first or hostile.name == "train/a/000.png":
            tar.addfile(hostile)
    with pytest.raises(RequestError) as caught:
        opened(path)
    assert hostile.name.replace("\\", "\\\\") in str(caught.value)
    assert not (cache / "images").exists()


@pytest.mark.parametrize(
    ("bound", "value", "message"),
    [
        ("MAX_MEMBERS", 5, "more than 5 members"),
        ("MAX_TOTAL", 1000, "more than .* at train/a/"),
        ("MAX_MEMBER", 100, "'train/a/000.png' is larger than"),
    ],
)
def test_bounds_of_a_tar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int, message: str
) -> None:
    monkeypatch.setattr(archive, bound, value)
    with pytest.raises(RequestError, match=message):
        opened(write_tar(tmp_path / "data.tar", tree_files()))


def test_a_huge_extended_header_is_not_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "data.tar", tree_files())
    header = member("pax", tarfile.XHDTYPE)
    header.size = 2**33
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + path.read_bytes())
    with pytest.raises(RequestError, match="a header claims 8589934592 bytes"):
        opened(path)
