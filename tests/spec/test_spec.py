"""Specs: every error at once, overrides, and a round trip through TOML."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sortednet_cli.errors import RequestError
from sortednet_cli.spec import dump_spec, load_preset, parse_spec, presets

GOOD = """
[model]
family = "preact_resnet"
config = { channels = [4], blocks = [2], strides = [1] }
[space]
width = [0.5, 1.0]
[train]
updates = 3
[data]
source = "digits"
"""


def _errors(text: str, *overrides: str) -> str:
    with pytest.raises(RequestError) as caught:
        parse_spec(text, where="here", name="x", overrides=overrides)
    return str(caught.value)


def test_every_wrong_field_is_reported_at_once() -> None:
    message = _errors(
        GOOD, "train.lr=-1", "train.lrr=2", "data.source=moon", "model.family=vgg", "nonsense=1"
    )
    for part in (
        "train.lr: ",
        "train.lrr: unknown key (did you mean lr?)",
        "data.source: unknown source 'moon'; the sources are digits",
        "model.family: unknown family 'vgg'; the families are preact_resnet",
        "nonsense: unknown key",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.rule=best", "train.rule: "),
        ("space.heads=[1]", "space.heads: unknown axis; the axes are width, depth"),
        ("space.width=[0.5, 2.0]", "space.width: width is a fraction"),
        ("space.depth=[1.5]", "space.depth: a depth must be a whole number"),
        ("space.width=[]", "space.width: needs at least one value"),
        ("space.width=[1, 1.0]", "holds a value twice"),
        ("model.depth_order=upwards", "model.depth_order"),
        ("train.depth_weights=[1]", "is only for the rules 'sum' and 'sandwich-sum'"),
        ("train.submodel=w1", "train.submodel is only for the rule 'single'"),
        ("model.factory=a:b", "are only for the family 'custom'"),
        ("train.lr_end=0.1", "train.lr_end is only for the schedule 'exponential'"),
        ("train.lr_drops=[0.9]", "train.lr_drops is only for the schedule 'step'"),
    ],
)
def test_wrong_values_name_the_field(override: str, message: str) -> None:
    assert message in _errors(GOOD, override)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["train.teacher=a", "train.label_smoothing=0.1"],
            "train.label_smoothing: the teacher has",
        ),
        (
            ["train.rule=sum", "train.last_depth_weights=[1, 2, 3]", "train.cuda_graphs=true"],
            "train.cuda_graphs: under train.last_depth_weights",
        ),
        (["model.init=nested", "model.pretrained=a.safetensors"], "set init to 'stock'"),
    ],
)
def test_what_would_do_nothing_is_refused(overrides: list[str], message: str) -> None:
    """A run that was trained with it before stays readable."""
    assert message in _errors(GOOD, *overrides)
    read = parse_spec(GOOD, where="here", name="a", overrides=overrides, stored=True)
    assert parse_spec(dump_spec(read), where="here", name="a", stored=True) == read


@pytest.mark.parametrize("true", ["true", "True"])
def test_processes_that_share_shards_train_alike_by_default(true: str) -> None:
    train = load_preset("pydoc-llama", [f"train.shard={true}"]).train
    assert (train.shard, train.diverse_ranks) == (True, False)


@pytest.mark.parametrize("override", ["train.lr", "=3", "train..lr=1", "name.x=1"])
def test_malformed_overrides(override: str) -> None:
    assert "--set" in _errors(GOOD, override)


def test_an_override_without_a_value_removes_the_key() -> None:
    changed = ["train.lr=0.7", "train.clip=3"]
    spec = parse_spec(GOOD, where="here", name="x", overrides=changed)
    assert (spec.train.lr, spec.train.clip) == (0.7, 3)
    removed = [*changed, "train.lr=", "train.clip=", "data.pair=", "data.path="]
    spec = parse_spec(GOOD, where="here", name="x", overrides=removed)
    assert (spec.train.lr, spec.train.clip) == (0.1, None)


@pytest.mark.parametrize(
    "override", ["train.lrr=", "nothing=", "train.lr.x=", "data.label_colum=", "model.config.size="]
)
def test_what_is_not_there_cannot_be_removed(override: str) -> None:
    assert "no such key to remove" in _errors(GOOD, override)


def test_overrides_are_toml_values_or_bare_text() -> None:
    spec = parse_spec(
        GOOD,
        where="here",
        name="x",
        overrides=["train.seed=3", "space.width=[0.25,1.0]", "data.path=a/b", "train.epochs=2"],
    )
    assert spec.train.seed == 3
    assert spec.space["width"] == (0.25, 1.0)
    assert spec.data.path == "a/b"
    assert (spec.train.updates, spec.train.epochs) == (None, 2)


def test_a_preset_s_reordering_can_be_left_out() -> None:
    assert load_preset("sst2-minilm").model.reorder == "importance"
    assert load_preset("sst2-minilm", ["model.reorder=none"]).model.reorder == "none"


def test_a_spec_is_frozen() -> None:
    spec = parse_spec(GOOD, where="here", name="x")
    with pytest.raises(ValidationError):
        spec.train.lr = 3.0  # type: ignore[misc]


def test_bad_toml_says_where() -> None:
    assert "here is not valid TOML" in _errors("[model")


@pytest.mark.parametrize("name", presets.names())
def test_presets_round_trip(name: str) -> None:
    spec = load_preset(name)
    assert parse_spec(dump_spec(spec), where="dump", name="y") == spec


@pytest.mark.parametrize("name", presets.names())
def test_common_overrides_work_for_every_preset(name: str) -> None:
    spec = load_preset(name, ["train.seed=3", "train.updates=10"])
    assert (spec.train.seed, spec.train.updates, spec.train.epochs) == (3, 10, None)


@pytest.mark.parametrize("last", ["epochs", "updates"])
def test_two_settings_of_one_quantity_are_told(last: str, caplog: pytest.LogCaptureFixture) -> None:
    """The last one counts, and nobody need guess that."""
    settings = sorted(("train.epochs=2", "train.updates=3"), key=lambda text: last in text)
    spec = load_preset("digits-resnet", settings)
    assert (spec.train.epochs, spec.train.updates) == ((2, None) if last == "epochs" else (None, 3))
    assert f"train.updates and train.epochs are one quantity: train.{last} counts" in caplog.text
    caplog.clear()
    load_preset("digits-resnet", settings[1:])
    assert not caplog.text
