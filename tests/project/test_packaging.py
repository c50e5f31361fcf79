"""The wheel and the source distribution hold all that an installation needs."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from sortednet_cli.spec import presets

ROOT = Path(__file__).parents[2]
PAGE = Path("sortednet_cli", "engine", "reporting", "page")
SHOWN = """
import sys
sys.path.insert(0, sys.argv[1])
from sortednet_cli.spec import presets
assert presets.__file__.startswith(sys.argv[1]), presets.__file__
assert presets.text("digits-resnet").startswith("#")
print(*presets.names())
"""


def _build(source: Path, kind: str, folder: Path) -> Path:
    words = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(words, cwd=source, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


def _listed(package: Path) -> list[str]:
    words = [sys.executable, "-I", "-c", SHOWN, str(package)]
    done = subprocess.run(words, cwd=package, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked: all that a build from it has."""
    folder = tmp_path_factory.mktemp("sdist")
    archive = _build(ROOT, "sdist", folder / "built")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (source,) = (path for path in folder.iterdir() if path.name != "built")
    return source


def test_a_wheel_made_of_the_source_distribution_lists_every_preset(
    unpacked: Path, tmp_path: Path
) -> None:
    wheel = _build(unpacked, "wheel", tmp_path / "built")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    assert _listed(tmp_path / "installed") == presets.names()
    package = tmp_path / "installed" / "sortednet_cli"
    assert not list(package.rglob("test_*"))
    for part in (ROOT / PAGE).iterdir():
        assert (package.parent / PAGE / part.name).read_bytes() == part.read_bytes()


def test_a_checkout_lists_every_preset(unpacked: Path) -> None:
    """As an editable installation does: it has the folder beside the package."""
    assert _listed(unpacked) == presets.names()
    assert sorted(path.stem for path in (ROOT / "presets").glob("*.toml")) == presets.names()
