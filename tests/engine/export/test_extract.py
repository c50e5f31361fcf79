"""Artifacts: equal to what they were cut from, and loaded without this package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sortednet_cli.engine.export.extract import extract
from sortednet_cli.engine.export.formats import find_format
from sortednet_cli.engine.loaded import LoadedRun, load_artifact, load_run
from sortednet_cli.engine.training.start import create_session
from sortednet_cli.errors import RequestError, WorkError
from sortednet_cli.space import SubModel
from sortednet_cli.spec import RunSpec
from tests.commands import WITHOUT_THIS_PACKAGE, python
from tests.pico import PICOS

CHECK = """
import torch
from safetensors.torch import load_file
check = load_file("check.safetensors")
with torch.no_grad():
    assert torch.equal(model(check["inputs"]), check["logits"]), "logits differ"
"""


@pytest.fixture(scope="module", params=["preact_basic", "mobilenet_v2", "resnet50", "custom"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedRun:
    """A pico run of each family."""
    root = tmp_path_factory.mktemp(request.param)
    return train_pico(request.param, root)


def train_pico(name: str, root: Path) -> LoadedRun:
    """Train a pico network for two updates on random images; the run is `root / "run"`."""
    pico = PICOS[name]
    size = pico.image_size
    generator = torch.Generator().manual_seed(0)
    for split in ("train", "test"):
        for label in range(5):
            folder = root / "data" / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(8):
                pixels = torch.randint(0, 256, (size, size, 3), generator=generator)
                Image.fromarray(pixels.to(torch.uint8).numpy()).save(folder / f"{index}.png")
    spec = RunSpec.model_validate(
        {
            "name": name,
            "model": pico.model,
            "space": pico.space,
            "train": {"updates": 2, "batch_size": 8},
            "data": {"source": "image-folder", "path": str(root / "data"), "validation": 0.3},
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SORTEDNET_CACHE", str(root / "cache"))
        list(create_session(root / "run", spec, torch.device("cpu")).events())
        return load_run(root / "run", allow_factory=["tests.pico:FlatNet"])


def _smallish(run: LoadedRun) -> SubModel:
    return run.space.submodels[len(run.space) // 2]


def test_an_artifact_loads_without_this_package_and_gives_the_recorded_logits(
    run: LoadedRun, tmp_path: Path
) -> None:
    """As its model card says."""
    done = extract(run, _smallish(run), tmp_path / "artifact")
    code = run.family.card.replace("(folder)", '(".")') + CHECK
    # One family is built by the tests' own code, another by this package's.
    if run.family.root.family not in ("custom", "preact_resnet"):
        code = WITHOUT_THIS_PACKAGE + code
    python(code, done.path)


def test_tensors_and_outputs_equal_the_network(run: LoadedRun, tmp_path: Path) -> None:
    network = run.network()
    for submodel in (run.space.smallest, _smallish(run), run.space.largest):
        done = extract(run, submodel, tmp_path / submodel.name)
        stored = load_file(done.path / "model.safetensors")
        views = network.at(submodel).state_dict()
        assert stored.keys() == views.keys()
        assert all(torch.equal(stored[name], views[name]) for name in stored)
        artifact = load_artifact(done.path, allow_factory=["tests.pico:FlatNet"])
        inputs = load_file(done.path / "check.safetensors")["inputs"]
        with torch.no_grad():
            assert torch.equal(artifact.module()(inputs), network.at(submodel)(inputs))
        assert done.verified.max_abs_diff == 0
        config = json.loads((done.path / "config.json").read_text())
        assert config == run.family.stored_config(run.family.shrink(submodel), "float32")


def test_an_artifact_can_be_cut_again(run: LoadedRun, tmp_path: Path) -> None:
    outer = run.space.submodels[-2]
    inner = run.space.nested_in(outer).smallest
    extract(run, outer, tmp_path / "outer")
    extract(run, inner, tmp_path / "direct")
    artifact = load_artifact(tmp_path / "outer", allow_factory=["tests.pico:FlatNet"])
    assert inner in artifact.space.submodels
    extract(artifact, inner, tmp_path / "again", artifact.open_data())
    direct, again = (
        load_file(tmp_path / name / "model.safetensors") for name in ("direct", "again")
    )
    assert direct.keys() == again.keys()
    assert all(torch.equal(direct[name], again[name]) for name in direct)


def test_a_failed_verification_leaves_nothing(
    run: LoadedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = type(run.family).build

    def damaged(self, config):  # type: ignore[no-untyped-def]
        module = build(self, config)
        module.register_forward_hook(lambda m, x, y: y + torch.rand_like(y))
        return module

    monkeypatch.setattr(type(run.family), "build", damaged)
    with pytest.raises(WorkError, match="verification failed"):
        extract(run, run.space.smallest, tmp_path / "artifact")
    assert list(tmp_path.iterdir()) == []


def test_out_that_exists_is_refused(run: LoadedRun, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="exists"):
        extract(run, run.space.smallest, tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file_format", ["onnx", "pt2"])
def test_other_formats(run: LoadedRun, tmp_path: Path, file_format: str) -> None:
    done = extract(run, _smallish(run), tmp_path / "artifact", None, find_format(file_format))
    assert (done.path / f"model.{file_format}").stat().st_size > 0
    if file_format == "pt2":
        check = load_file(done.path / "check.safetensors")
        program = torch.export.load(done.path / "model.pt2")
        more = torch.cat([check["inputs"]] * 3)
        assert program.module()(more).shape == (12, 5)
