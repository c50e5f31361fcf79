"""Texts made of several columns."""

from __future__ import annotations

import pytest

from sortednet_cli.data.text.table import Table
from sortednet_cli.errors import RequestError
from sortednet_cli.spec import dump_spec, load_preset, parse_spec
from sortednet_cli.spec.template import parse_template

PROMPT = "Below is a task.\n\n### Task:\n{task}\n\n### Input:\n{input}\n\n### Response:"


@pytest.mark.parametrize(
    ("template", "row", "text"),
    [
        ("{task}\n{input}", {"task": "Add.", "input": "1, 2"}, "Add.\n1, 2"),
        ("{task}\n{input}", {"task": "Add.", "input": ""}, "Add."),
        ("{task}\n{input}", {"task": " ", "input": "1"}, "1"),
        ("{task}\n\n{input}", {"task": "Add.", "input": ""}, "Add."),
        ("{task}\nInput: {input}\nAnswer:", {"task": "Add.", "input": ""}, "Add.\nAnswer:"),
        ("{a}, {b}\n{c}", {"a": "x", "b": "", "c": "z"}, "x, \nz"),
        (PROMPT, {"task": "Add.", "input": "1"}, PROMPT.format(task="Add.", input="1")),
        (PROMPT, {"task": "Add.", "input": ""},
         "Below is a task.\n\n### Task:\nAdd.\n\n### Response:"),
        (PROMPT, {"task": "", "input": ""}, ""),
        ("{{{a}}} {{}}", {"a": "{b}"}, "{{b}} {}"),
        ("{a b:c!r}", {"a b:c!r": "any name"}, "any name"),
        ("{a}\n\n\n{b}\n", {"a": "x\n\ny", "b": "z"}, "x\n\ny\n\n\nz\n"),
        ("plain name", {"plain name": "x"}, "x"),
    ],
)  # fmt: skip
def test_what_a_template_writes(template: str, row: dict[str, str], text: str) -> None:
    assert parse_template(template).fill(row) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{task", r"data\.question: a brace in '\{task'"),
        ("{a}}", "has no partner"),
        ("do {}", "has no partner"),
        ("{{task}}", "at least one column"),
        (r"{task}\n{input}", "in double quotes"),
    ],
)
def test_templates_that_are_refused(template: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        load_preset("alpaca-llama2-13b", [f"data.question={template}"])


def test_a_template_on_the_command_line_and_in_a_run() -> None:
    spec = load_preset("alpaca-llama2-13b", [r'data.answer="{output}\n{note}"'])
    assert spec.data.question == "{instruction}\n{input}"  # type: ignore[union-attr]
    assert spec.data.answer == "{output}\n{note}"  # type: ignore[union-attr]
    assert parse_spec(dump_spec(spec), where="spec.toml", name=spec.name) == spec


def table(**columns: list[object]) -> Table:
    return Table("a.jsonl", columns, range(1, 3))


def test_columns_of_a_template() -> None:
    found = table(task=["Add.", "Go."], input=["1", None]).texts("{task} {input}", "question")
    assert found == ["Add. 1", "Go. "]
    with pytest.raises(RequestError, match=r"no column 'inptu' \(data\.question\); it has task"):
        table(task=["a", "b"]).texts("{task}{inptu}", "question")
    with pytest.raises(RequestError, match="line 2: year must be text, not int"):
        table(task=["a", "b"], year=["1", 2]).texts("{task}{year}", "question")
    with pytest.raises(RequestError, match="line 2: task must be text, not a missing value"):
        table(task=["a", None]).texts("task", "question")


def test_plain_text_has_no_columns() -> None:
    plain = Table("a.txt", {"text": ["a"]}, [1], "document", plain=True)
    assert plain.texts("anything", "text") == ["a"]
    with pytest.raises(RequestError, match=r"data\.text: a template needs columns, but a\.txt is"):
        plain.texts("{title}: {body}", "text")
