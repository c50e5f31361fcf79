"""Every preset's real network builds, plans and costs on meta; its pico form trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from sortednet_cli import presets
from sortednet_cli.engine.fit import Finished, Fit
from sortednet_cli.families import open_family, root_of
from sortednet_cli.nesting import check_space, cost_of, plan_from_root
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import RunSpec, load_preset
from sortednet_cli.spec.vocabulary import SOURCES

PICO_CONFIG = {
    "preact_resnet": ["model.config.channels=[4,4,4]", "model.config.stem_channels=4"],
    "resnet50": ["model.config.layers=[1,1,1,2]", "model.config.width_per_group=4"],
    "mobilenet_v2": [
        "model.config.inverted_residual_setting=[[1,16,1,1],[2,24,3,2]]",
        "model.config.round_nearest=4",
    ],
}
PICO_SPACE = {
    "preact_resnet": {"width": "[0.5,1.0]", "depth": "[3,4]"},
    "resnet50": {"width": "[0.5,1.0]", "depth": "[4,5]"},
    "mobilenet_v2": {"width": "[0.5,1.0]", "depth": "[2,4]"},
}


def _family(spec: RunSpec):  # type: ignore[no-untyped-def]
    facts = SOURCES[spec.data.source]
    classes = facts.num_classes or spec.model.config["num_classes"]
    return open_family(root_of(spec.model, channels=facts.channels or 3, num_classes=classes))


def _input_shape(spec: RunSpec) -> tuple[int, int, int]:
    facts = SOURCES[spec.data.source]
    size = spec.data.image_size or facts.image_size
    assert size is not None
    return (facts.channels or 3, size, size)


@pytest.mark.parametrize("name", presets.names())
def test_real_configuration_builds_plans_and_costs(name: str) -> None:
    spec = load_preset(name)
    family, space = _family(spec), SearchSpace.of(spec.space)
    check_space(family, space)
    costs = {}
    for submodel in space.submodels:
        plan = plan_from_root(family, submodel)
        assert plan.slices
        costs[submodel] = cost_of(family, submodel, _input_shape(spec))
    assert min(costs, key=lambda s: costs[s].macs) == space.smallest
    assert max(costs, key=lambda s: costs[s].macs) == space.largest
    for small, large in ((a, b) for a in costs for b in costs if a <= b and a != b):
        assert costs[small].params < costs[large].params
        assert costs[small].macs <= costs[large].macs


@pytest.mark.parametrize(
    ("name", "axes", "macs", "params"),
    [
        # torchvision's documentation: MobileNetV2 3,504,872 parameters, 0.3 GFLOPS;
        # ResNet-50 25,557,032 parameters, 4.09 GFLOPS (multiply-adds).
        ("imagenet-mobilenetv2", {}, 300_774_272, 3_504_872),
        ("imagenet-resnet50", {}, 4_089_184_256, 25_557_032),
        # Nine basic blocks, by hand: 40.81, 23.04, 10.31 and 2.63 M multiply-adds.
        ("cifar10-resnet", {}, 40_813_184, 272_282),
        ("cifar10-resnet", {"width": 0.75}, 23_040_000, None),
        ("cifar10-resnet", {"width": 0.5}, 10_310_000, None),
        ("cifar10-resnet", {"width": 0.25}, 2_630_000, None),
        # Six bottleneck blocks, by hand from the convolutions' shapes.
        ("cifar10-cpreresnet20", {}, 33_737_216, None),
    ],
)
def test_costs_against_known_figures(
    name: str, axes: dict[str, float], macs: int, params: int | None
) -> None:
    spec = load_preset(name)
    submodel = SearchSpace.of(spec.space).resolve(axes)
    cost = cost_of(_family(spec), submodel, _input_shape(spec))
    assert cost.macs == pytest.approx(macs, rel=2e-3)
    assert cost.flops == 2 * cost.macs
    if params is not None:
        assert cost.params == params


def test_the_160_submodel_presets_hold_160() -> None:
    for name, least_span in (("digits-resnet", 10), ("cifar10-mobilenetv2", 5)):
        spec = load_preset(name)
        family, space = _family(spec), SearchSpace.of(spec.space)
        assert len(space) == 160
        macs = [
            cost_of(family, s, _input_shape(spec)).macs for s in (space.smallest, space.largest)
        ]
        assert macs[1] > least_span * macs[0]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ImageFolder tree of ten classes of random 32x32 images."""
    root = tmp_path_factory.mktemp("images")
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 10), ("test", 2)):
        for label in range(10):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = torch.randint(0, 256, (32, 32, 3), generator=generator)
                Image.fromarray(pixels.to(torch.uint8).numpy()).save(folder / f"{index}.png")
    return root


@pytest.mark.parametrize("name", presets.names())
def test_pico_form_trains_two_steps(
    name: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SORTEDNET_CACHE", str(tmp_path / "cache"))
    original = load_preset(name)
    family = original.model.family
    overrides = ["train.updates=2", "train.batch_size=16", *PICO_CONFIG[family]]
    if len(original.model.config.get("channels", ())) == 1:
        overrides[-2:] = ["model.config.channels=[4]"]
    for axis, values in PICO_SPACE[family].items():
        if axis in original.space:
            overrides.append(f"space.{axis}={values}")
    if family != "preact_resnet":
        overrides.append("model.config.num_classes=10")
    if original.data.source != "digits":
        overrides += [f"data.path={images}", "data.image_size=32", "data.validation=0.2"]
    spec = load_preset(name, [*overrides, "data.workers=0"])
    fit = Fit.create(tmp_path / "run", spec, torch.device("cpu"))
    finished = list(fit.events())[-1]
    assert isinstance(finished, Finished)
    assert len(finished.rows) == len(SearchSpace.of(spec.space))
    assert all(0 <= row.metrics["test"]["accuracy"] <= 1 for row in finished.rows)
