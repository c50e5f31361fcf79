"""Image checkpoints: pixels become what transformers' own processor makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from sortednet_cli.data.images.format import scale_and_shift
from sortednet_cli.engine.export.extract import extract
from sortednet_cli.engine.loaded import load_artifact
from sortednet_cli.engine.sources.stock import load_stock
from sortednet_cli.errors import RequestError

MEANS = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}


SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 8,
    "patch_size": 4,
    "num_labels": 3,
}
PROCESSORS: Any = transformers.AutoImageProcessor


@pytest.fixture
def stock(tmp_path: Path) -> Path:
    folder = tmp_path / "stock"
    config = transformers.ViTConfig(**SIZES)
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "entries",
    [
        {},
        MEANS,
        {**MEANS, "do_normalize": False},
        {**MEANS, "rescale_factor": 1 / 127.5},
        {"image_mean": [127.0] * 3, "image_std": [50.0] * 3, "do_rescale": False},
        {"do_rescale": False, "do_normalize": False},
    ],
)
def test_pixels_are_those_of_the_processor(
    stock: Path, tmp_path: Path, entries: dict[str, Any]
) -> None:
    kind = {"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}}
    (stock / "preprocessor_config.json").write_text(json.dumps({**kind, **entries}))
    source = load_stock(stock)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    scale, shift = scale_and_shift(source.format)  # type: ignore[arg-type]
    own = torch.from_numpy(pixels).permute(2, 0, 1) * scale + shift
    extract(source, source.space.smallest, tmp_path / "cut")
    again = load_artifact(tmp_path / "cut")
    extract(again, again.space.largest, tmp_path / "again")
    for folder in ("cut", "again"):
        processor = PROCESSORS.from_pretrained(tmp_path / folder)
        found = processor(pixels, return_tensors="pt", input_data_format="channels_last")
        torch.testing.assert_close(found["pixel_values"][0].float(), own, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"image_mean": [0.5]}, "image_mean and image_std must be 3 numbers each"),
        ({"rescale_factor": 0}, "rescale_factor: 0 is not a positive number"),
        ({"rescale_factor": "1/255"}, "rescale_factor: '1/255' is not a positive number"),
    ],
)
def test_a_processor_that_says_nonsense(stock: Path, entries: dict[str, Any], message: str) -> None:
    (stock / "preprocessor_config.json").write_text(json.dumps(entries))
    with pytest.raises(RequestError, match=message):
        load_stock(stock)
