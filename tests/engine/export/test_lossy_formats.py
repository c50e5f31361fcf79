"""Formats that hold rounded weights: written from data, and scored beside the float model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import transformers
from safetensors.torch import load_file

from tests.commands import command, refused
from tests.whole.test_language import PICO_RUN


def document(*arguments: str) -> Any:
    done = command(*arguments, "--json", "--quiet")
    assert (done.code, done.err) == (0, ""), done
    return json.loads(done.out)


def exported(*arguments: str) -> dict[str, Any]:
    found = document("extract", *arguments)["verified"]["exported"]
    assert isinstance(found, dict)
    return found


def operations() -> set[str]:
    return {node.op_type for node in onnx.load("cut/model.onnx").graph.node}


@pytest.mark.filterwarnings("ignore")
def test_image_models_are_calibrated_and_scored(home: Path) -> None:
    """The float score is the sub-model's own; the file's is counted from its logits."""
    found = exported("--format=onnx-int8", "--depth=1", "--out=cut")
    own = document("eval", "--depth=1", "--width=1", "--split=validation")["submodels"][0]
    assert found["validation"]["float"] == pytest.approx(own["metrics"])
    assert found["validation"]["file"].keys() == own["metrics"].keys()
    assert found["max_abs_diff"] > 0 and found["samples"] == 256 + 32
    assert "QuantizeLinear" in operations()
    card, score = Path("cut/README.md").read_text(), found["validation"]["file"]["accuracy"]
    assert f"On validation data: accuracy {score:.4g} (" in card
    kept = json.loads(Path("cut/sortednet.json").read_text())["verified"]["exported"]
    assert kept == found
    check = load_file("cut/check.safetensors")
    session = onnxruntime.InferenceSession("cut/model.onnx")
    (logits,) = session.run(None, {"inputs": check["inputs"].numpy()})
    assert logits.shape == check["logits"].shape and np.isfinite(logits).all()


@pytest.mark.filterwarnings("ignore")
def test_texts_are_quantised_as_they_come(work: Path) -> None:
    settings = [f"--set={each}" for each in PICO_RUN]
    assert command("train", "--preset=pydoc-llama", *settings, "--out=run", "--quiet").code == 0
    found = exported("run", "--format=onnx-int8", "--depth=1", "--out=cut")
    assert found["inputs"] == ["input_ids", "attention_mask"]
    scores = found["validation"]
    assert scores["file"]["perplexity"] == pytest.approx(scores["float"]["perplexity"], rel=0.05)
    assert scores["file"]["perplexity"] != scores["float"]["perplexity"]
    assert "MatMulInteger" in operations()
    found = exported("run", "--format=torchao-int8", "--depth=1", "--out=small")
    assert found["validation"]["float"] == scores["float"]
    assert found["validation"]["file"]["perplexity"] == pytest.approx(
        scores["float"]["perplexity"], rel=0.05
    )
    small = transformers.AutoModelForCausalLM.from_pretrained("small/model.torchao-int8")
    assert "Int8Tensor" in type(small.model.layers[0].self_attn.q_proj.weight).__name__
    assert small.config.use_cache is True
    assert command("info", "small", "--check", "--quiet").code == 0


def test_the_log_tells_both_scores(home: Path) -> None:
    done = command("extract", "--format=onnx-int8", "--depth=1", "--out=cut")
    assert done.code == 0
    words = " ".join(done.err.split())
    assert "model.onnx in onnxruntime (" in words and "on validation data accuracy" in words
    assert "% (in floats " in words


def test_the_data_must_be_there(home: Path, tmp_path: Path) -> None:
    assert command("extract", "--out=cut", "--quiet").code == 0
    shutil.copytree("cut", "stock")
    done = command("extract", "cut", "--format=onnx-int8", "--data=nowhere", "--out=again")
    refused(done, 2, "--data")
