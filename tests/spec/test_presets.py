"""Every preset's real network builds, plans and costs on meta; its pico form trains."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from sortednet_cli.data import nominal_format
from sortednet_cli.engine.training.events import Finished
from sortednet_cli.engine.training.start import create_session
from sortednet_cli.families import Family, open_family, root_of
from sortednet_cli.nesting import SubModelCost, check_space, cost_of, plan_from_root
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import RunSpec, TextDataSpec, load_preset, presets
from sortednet_cli.spec.template import parse_template

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


PICO_TRANSFORMER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
}
TEXT_PRESETS = [n for n in presets.names() if isinstance(load_preset(n).data, TextDataSpec)]
IMAGE_PRESETS = [name for name in presets.names() if name not in TEXT_PRESETS]


def _family(spec: RunSpec) -> Family:
    return open_family(root_of(spec.model, spec.task, nominal_format(spec).facts()))


def _cost(spec: RunSpec, family: Family, submodel: SubModel) -> SubModelCost:
    inputs = nominal_format(spec)
    return cost_of(family, submodel, inputs.random_inputs, inputs.num_units)


def _spread(values: Sequence[float]) -> list[float]:
    """The ends of an axis, their neighbours and the middle."""
    places = {0, 1, len(values) // 2, len(values) - 2, len(values) - 1}
    return [value for place, value in enumerate(values) if place in places]


@pytest.mark.parametrize("name", presets.names())
def test_real_configuration_builds_plans_and_costs(name: str) -> None:
    """Every sub-model, or 25 of many."""
    spec = load_preset(name)
    family, space = _family(spec), SearchSpace.of(spec.space)
    check_space(family, space)
    space = SearchSpace.of({axis: _spread(values) for axis, values in space.axes})
    costs = {}
    for submodel in space.submodels:
        plan = plan_from_root(family, submodel)
        assert plan.slices
        costs[submodel] = _cost(spec, family, submodel)
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
        # The model cards: LLaMA 2 13B has 13,015,864,320 parameters; BERT-base without its head
        # 109,482,240, with one of two classes 1,538 more.
        ("alpaca-llama2-13b", {}, 12_851_609_600 + 2 * 40 * 512 * 5120, 13_015_864_320),
        ("glue-bert-large", {"width": 0.75, "depth": 12}, 84_934_656 + 2_359_296, 109_483_778),
        # Six bottleneck blocks, by hand from the convolutions' shapes.
        ("cifar10-cpreresnet20", {}, 33_737_216, None),
    ],
)
def test_costs_against_known_figures(
    name: str, axes: dict[str, float], macs: int, params: int | None
) -> None:
    spec = load_preset(name)
    submodel = SearchSpace.of(spec.space).resolve(axes)
    cost = _cost(spec, _family(spec), submodel)
    assert cost.macs == pytest.approx(macs, rel=2e-3)
    if params is not None:
        assert cost.params == params


def test_the_160_submodel_presets_hold_160() -> None:
    for name, least_span in (("digits-resnet", 10), ("cifar10-mobilenetv2", 5)):
        spec = load_preset(name)
        family, space = _family(spec), SearchSpace.of(spec.space)
        assert len(space) == 160
        macs = [_cost(spec, family, s).macs for s in (space.smallest, space.largest)]
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


@pytest.mark.parametrize("name", IMAGE_PRESETS)
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
    fit = create_session(tmp_path / "run", spec, torch.device("cpu"))
    finished = list(fit.events())[-1]
    assert isinstance(finished, Finished)
    assert len(finished.rows) == len(SearchSpace.of(spec.space))
    assert all(0 <= row.metrics["test"]["accuracy"] <= 1 for row in finished.rows)


@pytest.mark.parametrize("name", TEXT_PRESETS)
def test_pico_form_of_a_text_preset_trains_two_steps(name: str, tmp_path: Path) -> None:
    original = load_preset(name)
    assert isinstance(original.data, TextDataSpec)
    columns = original.data
    asked = [parse_template(text).columns for text in (columns.question, columns.answer)]
    names = [columns.text, *asked[0], *asked[1]]
    rows = [{columns.label: i % 2, **{name: f"{name} {i}" for name in names}} for i in range(80)]
    file = tmp_path / "table.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    space = {axis: "[1,2]" if axis == "depth" else "[0.5,1.0]" for axis in original.space}
    overrides = [f"space.{axis}={values}" for axis, values in space.items()]
    for key in ("depth_weights", "last_depth_weights"):
        if getattr(original.train, key) is not None:
            overrides.append(f"train.{key}=[1,2]")
    overrides += ["train.updates=2", "train.batch_size=4", "train.accumulate=1"]
    overrides += ["data.max_length=16", "data.vocab_size=300"]
    if columns.template == "chat":
        overrides.append("data.template=plain")  # the tokenizer of these rows has no chat template
    if columns.source != "pydoc":
        overrides += ["data.source=text", f"data.path={file}"]
    spec = load_preset(name, overrides)
    model = spec.model.model_copy(
        update={"pretrained": None, "reorder": "none", "config": PICO_TRANSFORMER}
    )
    spec = spec.model_copy(update={"model": model})
    finished = list(create_session(tmp_path / "run", spec, torch.device("cpu")).events())[-1]
    assert isinstance(finished, Finished)
    assert len(finished.rows) == len(SearchSpace.of(spec.space))
    assert all(row.metrics["test"]["loss"] > 0 for row in finished.rows)
