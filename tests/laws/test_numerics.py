"""What trains is right on every processor: passes against float64 stock modules.

A kernel may be wrong on one kind of processor alone, so `make test` runs this file once as it is
and once with `ONEDNN_MAX_CPU_ISA=AVX2`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase

from sortednet_cli.data import nominal_format
from sortednet_cli.data.images.format import ImageFormat
from sortednet_cli.engine.training import kernels
from sortednet_cli.engine.training.kernels import keeps_channels_last, with_trusted_precision
from sortednet_cli.families import Family, Inputs, open_family, root_of
from sortednet_cli.machine.device import move_to
from sortednet_cli.nesting import NestedNetwork, ignore_layout_warning, init_network
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import CustomAxis, ModelSpec, RunSpec, TrainSpec, load_preset, presets
from tests.spec.test_presets import PICO_CONFIG, PICO_SPACE, PICO_TRANSFORMER

SAMPLES = 4
CPU = torch.device("cpu")
TOLERANCE = {"fp32": 0.05, "bf16": 0.6}
"""Relative to the norm of what is compared. Four samples make batch statistics sensitive."""

FLOOR = {"fp32": 0.01, "bf16": 0.1}
"""Norm of a gradient, as a share of the module's largest, below which it is rounding."""

SHORT = {
    "max_position_embeddings": 64,
    "vocab_size": 64,
    "num_hidden_layers": 2,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
SMALLER = {
    # A layer of the real one has 317 million weights: heads of the real size, an eighth of them.
    "alpaca-llama2-13b": {
        "hidden_size": 640,
        "intermediate_size": 1728,
        "num_attention_heads": 5,
        "num_key_value_heads": 5,
    },
}


def _pico(name: str) -> RunSpec:
    """A preset with few channels."""
    spec = load_preset(name)
    family = spec.model.family
    if family in PICO_CONFIG:
        overrides = list(PICO_CONFIG[family])
        if len(spec.model.config.get("channels", ())) == 1:
            overrides[0] = "model.config.channels=[4]"
        overrides += [f"space.{a}={v}" for a, v in PICO_SPACE[family].items() if a in spec.space]
        return load_preset(name, overrides)
    return _as_text(spec, PICO_TRANSFORMER)


def _real(name: str) -> RunSpec:
    """A preset with its own channels; of texts with two layers and few tokens."""
    spec = load_preset(name)
    if spec.model.family in PICO_CONFIG:
        return spec
    return _as_text(spec, {**spec.model.config, **SMALLER.get(name, {})})


def _as_text(spec: RunSpec, config: dict[str, Any]) -> RunSpec:
    depths = {"depth": (1, 2)} if "depth" in spec.space else {}
    own = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    kept = {k: v for k, v in SHORT.items() if spec.model.family != "llama" or k not in own}
    model = spec.model.model_copy(update={"config": {**config, **kept}})
    data = spec.data.model_copy(update={"vocab_size": 64, "max_length": 12})
    return spec.model_copy(update={"model": model, "space": {**spec.space, **depths}, "data": data})


def _inputs(spec: RunSpec) -> Inputs:
    """A few samples; images of at most 64 pixels."""
    inputs = nominal_format(spec).random_inputs(SAMPLES, torch.Generator().manual_seed(0))
    return inputs[..., :64, :64] if isinstance(inputs, Tensor) else inputs


def _spread(space: SearchSpace) -> list[SubModel]:
    """Widths at the least depth, a few of many, and the largest."""
    least = min(dict(space.axes).get("depth", (0,)))
    narrow = [s for s in space.submodels if s.axes.get("depth", 0) in (0, least)]
    step = 1 if len(narrow) < 8 else 8
    return [*dict.fromkeys([*narrow[::step], space.largest])]


def _pass(family: Family, module: nn.Module, inputs: Inputs, in_bf16: bool) -> Tensor:
    """Run forward and backward as training does; return the logits."""
    with torch.autocast("cpu", torch.bfloat16, enabled=in_bf16):
        logits = (
            family.forward(module, inputs).float() if in_bf16 else family.forward(module, inputs)
        )
    targets = torch.arange(logits.numel() // logits.shape[-1]) % logits.shape[-1]
    F.cross_entropy(logits.flatten(0, -2), targets).backward()
    return logits.detach()


def _in_training(module: nn.Module, statistics_stay: bool) -> nn.Module:
    """Put a module into training mode, less what draws random numbers."""
    module.train()
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        if statistics_stay and isinstance(layer, _NormBase):
            layer.eval()
    return module


def _reference(family: Family, submodel: SubModel, view: nn.Module) -> nn.Module:
    """A float64 stock module in torch's own memory format, with the same weights."""
    module = family.build(family.shrink(submodel))
    module.load_state_dict({n: t.contiguous() for n, t in view.state_dict().items()})
    return module.double()


def _differences(
    family: Family, submodel: SubModel, view: nn.Module, inputs: Inputs, in_bf16: bool
) -> Iterator[tuple[str, float]]:
    """How far outputs and each gradient are from float64, relative to their norms.

    In bfloat16 statistics stay as a pass before has measured them: few samples would turn rounding
    into other statistics.
    """
    if in_bf16:
        _in_training(view, False)
        with torch.no_grad():
            family.forward(view, inputs)
    stock = _in_training(_reference(family, submodel, view), in_bf16)
    _in_training(view, in_bf16)
    wide = inputs.double() if isinstance(inputs, Tensor) else inputs
    wanted = _pass(family, stock, wide, in_bf16=False)
    found = _pass(family, view, inputs, in_bf16)
    yield "logits", float((found.double() - wanted).norm() / wanted.norm())
    truth = {name: p.grad for name, p in stock.named_parameters() if p.grad is not None}
    floor = FLOOR["bf16" if in_bf16 else "fp32"] * max(float(g.norm()) for g in truth.values())
    for name, parameter in view.named_parameters():
        assert parameter.grad is not None
        error = float((parameter.grad.double() - truth[name]).norm())
        yield name, error / (float(truth[name].norm()) + floor)


def _check(spec: RunSpec, precision: str, channels_last: bool) -> None:
    family = open_family(root_of(spec.model, spec.task, nominal_format(spec).facts()))
    space = SearchSpace.of(spec.space)
    in_bf16 = precision == "bf16"
    channels_last = channels_last and keeps_channels_last(family, space, CPU, in_bf16)
    module = move_to(init_network(family, 0), CPU, channels_last)
    network = NestedNetwork(family, space, module)
    network.enable_training()
    ignore_layout_warning()
    for submodel in _spread(space):
        network.zero_gradients()
        view = network.at(submodel)
        found = dict(_differences(family, submodel, view, _inputs(spec), in_bf16))
        worst = max(found, key=lambda name: found[name])
        assert found[worst] < TOLERANCE[precision], (submodel.name, worst, found[worst])


def _cases() -> Iterator[Any]:
    """Each preset in its real form, each kind of small one once, in what it trains in."""
    picos = set()
    for name in presets.names():
        spec = load_preset(name)
        forms = {"real": _real(name), "pico": _pico(name)}
        small = forms["pico"].model.model_dump_json(exclude={"pretrained", "reorder"})
        if small in picos:
            del forms["pico"]
        picos.add(small)
        chosen = spec.train.precision
        for form, made in forms.items():
            for precision in ("fp32", "bf16") if chosen == "auto" else (chosen,):
                for last in _formats(spec):
                    case = f"{name}-{form}-{precision}" + ("-channels_last" if last else "")
                    yield pytest.param(made, precision, last, id=case)


def _formats(spec: RunSpec) -> tuple[bool, ...]:
    """The memory formats that a preset may train in."""
    told = spec.train.channels_last
    return (False, True) if told == "auto" else (told,)


@pytest.mark.parametrize(("spec", "precision", "channels_last"), list(_cases()))
def test_passes_equal_a_float64_stock_module(
    spec: RunSpec, precision: str, channels_last: bool
) -> None:
    _check(spec, precision, channels_last)


def strided(channels: int) -> nn.Module:
    """A network with a strided 1x1 convolution."""
    return nn.Sequential(nn.Conv2d(3, channels, 3), nn.Conv2d(channels, 8, 1, stride=2))


def test_a_layer_that_would_meet_the_wrong_kernel_keeps_the_default_format() -> None:
    factory = "tests.laws.test_numerics:strided"
    model = ModelSpec(
        family="custom",
        factory=factory,
        config={"channels": 16},
        axes={"width": CustomAxis(scales=("channels",))},
    )
    family = open_family(root_of(model, "classification", {}), [factory])
    halves, whole = (SearchSpace.of({"width": widths}) for widths in ([0.5, 1.0], [1.0]))
    assert keeps_channels_last(family, whole, CPU, uses_bf16=False)
    assert not keeps_channels_last(family, halves, CPU, uses_bf16=False)
    assert keeps_channels_last(family, halves, CPU, uses_bf16=True)
    assert keeps_channels_last(family, halves, torch.device("cuda"), uses_bf16=False)


def test_presets_that_train_in_channels_last_meet_no_wrong_kernel() -> None:
    for name in presets.names():
        spec = load_preset(name)
        if True in _formats(spec):
            family = open_family(root_of(spec.model, spec.task, nominal_format(spec).facts()))
            assert keeps_channels_last(family, SearchSpace.of(spec.space), CPU, uses_bf16=False)


def narrowing(channels: int, stride: int) -> nn.Module:
    """A network that divides the width of an image twice."""
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, stride, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 8, 3, stride, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def _narrowing(stride: int) -> tuple[Family, SearchSpace, dict[int, str]]:
    """The family, and by the size of an image the precision that it can train in if asked bf16."""
    factory = "tests.laws.test_numerics:narrowing"
    axes = {"width": CustomAxis(scales=("channels",))}
    config = {"channels": 32, "stride": stride}
    model = ModelSpec(family="custom", factory=factory, config=config, axes=axes)
    family = open_family(root_of(model, "classification", {}), [factory])
    expected = {stride * stride: "bf16", stride * (stride - 1): "fp32"}
    return family, SearchSpace.of({"width": [0.5, 1.0]}), expected


def _images(size: int) -> ImageFormat:
    return ImageFormat(3, size, 8, tuple("abcdefgh"), (0.5,) * 3, (0.2,) * 3, "images")


@pytest.mark.parametrize("asked", ["auto", "bf16"])
@pytest.mark.parametrize("stride", [2, 3])
def test_bfloat16_is_not_trusted_where_a_stride_is_wider_than_the_input(
    asked: str, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "has_avx512", lambda: True)
    monkeypatch.setattr(kernels, "in_bf16", lambda precision, _: precision != "fp32")
    family, space, expected = _narrowing(stride)
    train = TrainSpec(precision=asked, updates=1)
    for size, precision in expected.items():
        trusted = with_trusted_precision(train, family, space, _images(size), CPU)
        assert trusted.precision == (asked if precision == "bf16" else precision), size
    assert with_trusted_precision(train, family, space, _images(2), torch.device("cuda")) == train
    monkeypatch.setattr(kernels, "has_avx512", lambda: False)
    assert with_trusted_precision(train, family, space, _images(2), CPU) == train


@pytest.mark.parametrize("stride", [2, 3])
def test_gradients_of_narrow_inputs_are_right_in_what_is_taken(stride: int) -> None:
    """On this processor, whatever it is."""
    family, space, expected = _narrowing(stride)
    for size in expected:
        images = _images(size)
        train = TrainSpec(precision="bf16", updates=1)
        taken = with_trusted_precision(train, family, space, images, CPU).precision
        network = NestedNetwork(family, space, init_network(family, 0))
        network.enable_training()
        view = network.at(space.largest)
        inputs = images.random_inputs(SAMPLES, torch.Generator().manual_seed(0))
        found = dict(_differences(family, space.largest, view, inputs, taken == "bf16"))
        assert max(found.values()) < 0.1, (size, taken, found)
