"""Your own model, with the very lines of the tutorial."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.commands import WITHOUT_THIS_PACKAGE, command, python, refused, shell

TUTORIAL = (Path(__file__).parents[2] / "docs" / "tutorials" / "your-own-model.md").read_text(
    encoding="utf-8"
)
(MYNETS,) = re.findall(r"```python\n(.*?)```", TUTORIAL, re.DOTALL)
(SPEC,) = re.findall(r"```toml\n(.*?)```", TUTORIAL, re.DOTALL)


def test_the_documented_model_trains_and_its_card_loads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mynets.py").write_text(MYNETS)
    Path("mine.toml").write_text(SPEC)
    denied = shell("sortednet train --config mine.toml --quiet && sortednet eval --all")
    assert denied.code == 2
    assert "--allow-factory mynets:make" in denied.err
    done = shell(
        "sortednet eval --all && sortednet extract --width 0.5 --depth 4 --out artifact",
        SORTEDNET_ALLOW_FACTORY="mynets:make",
    )
    assert done.code == 0, done.err
    assert "9 sub-models" in done.out
    (card,) = re.findall(
        r"```python\n(.*?)```", Path("artifact/README.md").read_text(), flags=re.DOTALL
    )
    check = """
check = load_file("check.safetensors")
assert torch.equal(model(check["inputs"]), check["logits"])
"""
    own = f"import sys; sys.path.append({str(tmp_path)!r})\n"
    python(own + WITHOUT_THIS_PACKAGE + card + check, tmp_path / "artifact")
    assert load_file("artifact/model.safetensors")["stem.1.weight"].shape == (32, 64)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.blocks.paths=['bdy']", "the model has no module 'bdy"),
        ("space.depth=[2, 7]", "depths 1 to 6"),
        ("model.blocks.before=1", "no module 'body.2'"),
        (
            "model.config={layers = 6, num_classes = 10}",
            "missing 1 required positional argument: 'hidden'",
        ),
    ],
)
def test_a_wrong_declaration_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("mynets.py").write_text("print('noise')\n" + MYNETS)
    Path("mine.toml").write_text(SPEC)
    done = command("train", "--config", "mine.toml", "--set", override)
    refused(done, 2, message)
    assert not Path("runs").exists()
