"""Wrong values are told in plain words: what must be, and what stands there."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sortednet_cli.wrong_values import WrongValue, wrong_values


class Values(BaseModel):
    model_config = ConfigDict(extra="forbid")

    switch: bool | Literal["auto"] = False
    rates: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = ()
    count: Annotated[int, Field(gt=0)] | None = None
    rule: Literal["sorted", "sum", 3] = "sum"
    name: Annotated[str, Field(max_length=3, pattern="x+")] = "x"
    sizes: Annotated[tuple[int | float | Literal["all"], ...], Field(min_length=1)] = (1,)
    table: dict[str, Any] = Field(default_factory=dict)


def wrong(**values: Any) -> list[WrongValue]:
    with pytest.raises(ValidationError) as raised:
        Values(**values)
    return list(wrong_values(raised.value.errors()))


@pytest.mark.parametrize(
    ("values", "messages"),
    [
        ({"switch": "on it"}, {"switch": "must be true, false or 'auto', not 'on it'"}),
        ({"switch": "autos"}, {"switch": "must be true, false or 'auto', not 'autos' (did you"}),
        ({"rates": "fast"}, {"rates": "must be a list, not 'fast'"}),
        (
            {"rates": [0, 1, "x"]},
            {"rates.0": "must be greater than 0, not 0", "rates.2": "must be a number, not 'x'"},
        ),
        ({"rates": [float("nan")]}, {"rates.0": "must be"}),
        ({"count": 1.5}, {"count": "must be a whole number, not 1.5"}),
        ({"count": "many"}, {"count": "must be a whole number, not 'many'"}),
        ({"count": -1}, {"count": "must be greater than 0, not -1"}),
        ({"rule": "sorte"}, {"rule": "must be 'sorted', 'sum' or 3, not 'sorte' (did you mean s"}),
        ({"rule": True}, {"rule": "must be 'sorted', 'sum' or 3, not true"}),
        ({"name": "xxxxx"}, {"name": "must have at most 3 characters, not 'xxxxx'"}),
        ({"name": "y"}, {"name": "must match pattern 'x+', not 'y'"}),
        ({"name": 3}, {"name": "must be text, not 3"}),
        ({"sizes": []}, {"sizes": "must have at least 1 item, not []"}),
        (
            {"sizes": ["a", 1, "b"]},
            {
                "sizes.0": "must be a whole number, a number or 'all', not 'a'",
                "sizes.2": "must be a whole number, a number or 'all', not 'b'",
            },
        ),
        ({"table": 3}, {"table": "must be a table of keys, not 3"}),
        ({"count": 3.5, "name": 3.5}, {"count": "must be a whole", "name": "must be text"}),
    ],
)
def test_says_what_must_be(values: dict[str, Any], messages: dict[str, str]) -> None:
    found = {".".join(map(str, one.path)): one.message for one in wrong(**values)}
    assert found.keys() == messages.keys()
    for path, message in messages.items():
        assert found[path].startswith(message)


def test_repeats_only_the_start_of_a_long_value() -> None:
    (one,) = wrong(count="9" * 5000 + "x")
    assert len(one.message) < 120


def test_says_that_a_value_is_missing() -> None:
    class Needed(BaseModel):
        value: int

    with pytest.raises(ValidationError) as raised:
        Needed.model_validate({})
    (one,) = wrong_values(raised.value.errors())
    assert (one.path, one.message) == (("value",), "it is missing")


def test_keeps_the_kind_of_an_unknown_key() -> None:
    (one,) = wrong(nothing=1)
    assert one.kind == "extra_forbidden"
    assert one.path == ("nothing",)
