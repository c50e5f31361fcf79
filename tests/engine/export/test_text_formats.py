"""Text models in further formats: the batch size and the length are free, and padding is masked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from safetensors.torch import load_file

from sortednet_cli.engine.export.extract import Extracted, extract
from sortednet_cli.engine.export.formats import find_format
from sortednet_cli.engine.sources.stock import load_stock
from tests.pico import TEXT_PICOS

LOADERS = {
    "bert_classifier": transformers.AutoModelForSequenceClassification,
    "llama": transformers.AutoModelForCausalLM,
}


def cut(name: str, file_format: str, folder: Path) -> Extracted:
    """Half a stock checkpoint, with a file of another format."""
    pico = TEXT_PICOS[name]
    pico.network(training=False).standalone(pico.search_space.largest).save_pretrained(
        folder / "stock"
    )
    source = load_stock(folder / "stock")
    half = source.space.resolve({"width": 0.5, "depth": 2})
    return extract(source, half, folder / "cut", None, find_format(file_format))


def tokens(count: int, length: int) -> dict[str, torch.Tensor]:
    """Texts of which the first has padding."""
    ids = torch.randint(3, 40, (count, length), generator=torch.Generator().manual_seed(count))
    mask = torch.ones_like(ids)
    mask[0, length - 2 :] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file_format", ["pt2", "openvino", "executorch"])
def test_other_runtimes_give_the_same_logits(file_format: str, tmp_path: Path) -> None:
    if file_format == "executorch":
        pytest.importorskip("executorch", reason="its wheels are large, so it is no part of [dev]")
    done = cut("bert_classifier", file_format, tmp_path)
    exported = done.verified.exported
    assert exported is not None and exported.max_abs_diff is not None
    assert exported.samples == 7 and exported.max_abs_diff < 1e-5
    further = find_format(file_format)
    assert further is not None
    run = further.open(done.path / exported.file)
    assert (run is None) == (file_format == "pt2")  # its file is written, never read
    if run is not None:
        inputs = tokens(2, 9)
        inputs["token_type_ids"] = torch.randint(2, (2, 9))
        model = LOADERS["bert_classifier"].from_pretrained(done.path)
        with torch.no_grad():
            torch.testing.assert_close(run(inputs), model(**inputs).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LOADERS)
def test_onnx_gives_the_stock_models_logits_at_any_batch_size_and_length(
    name: str, tmp_path: Path
) -> None:
    done = cut(name, "onnx", tmp_path)
    exported = done.verified.exported
    assert exported is not None and exported.max_abs_diff is not None
    assert exported.samples == 7 and exported.max_abs_diff < 1e-5
    session = onnxruntime.InferenceSession(str(done.path / "model.onnx"))
    names = tuple(node.name for node in session.get_inputs())
    segments = ("token_type_ids",) if name == "bert_classifier" else ()
    assert names == exported.inputs == ("input_ids", "attention_mask", *segments)
    model = LOADERS[name].from_pretrained(done.path)
    check = load_file(done.path / "check.safetensors")
    assert check.keys() == {"input_ids", "logits"}
    for count, length in ((1, 5), (6, 16)):
        inputs = tokens(count, length)
        for extra in segments:
            inputs[extra] = torch.randint(2, (count, length))
        with torch.no_grad():
            expected = model(**inputs).logits.numpy()
        (logits,) = session.run(None, {key: value.numpy() for key, value in inputs.items()})
        np.testing.assert_allclose(logits, expected, atol=1e-5)
    card = (done.path / "README.md").read_text()
    listed = " and ".join(f"`{each}`" for each in names)
    assert f"the inputs {listed}, the output `logits`, and free batch size and length.\n" in card
    manifest = json.loads((done.path / "sortednet.json").read_text())
    assert manifest["verified"]["exported"]["inputs"] == list(names)
