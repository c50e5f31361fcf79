"""The model card of an artifact: what it is, and the lines that load it."""

from __future__ import annotations

from collections.abc import Collection

from sortednet_cli.engine.source import Source
from sortednet_cli.engine.table import Row
from sortednet_cli.space import format_count

_OTHER_FORMATS = {
    "model.onnx": "has the input `inputs`, the output `logits` and a free batch size.",
    "model.pt2": "is for `torch.export.load(...).module()`, with a free batch size.",
}


def model_card(source: Source, row: Row, num_checked: int, files: Collection[str]) -> str:
    """Write the card as Markdown; `files` are the names that the folder holds."""
    others = "".join(f"`{name}` {use}\n" for name, use in _OTHER_FORMATS.items() if name in files)
    images = source.format
    test = row.metrics.get("test", {})
    scores = ", ".join(f"{name} {value:.4g}" for name, value in test.items()) or "not measured"
    normalise = ", ".join(f"({_numbers(v)})" for v in (images.mean, images.std))
    return f"""# {source.name} {row.submodel}

A sub-model cut out of the nested network `{source.name}`. It stands alone.

- Parameters: {format_count(row.params)}; multiply-adds: {format_count(row.macs)} an image
- Test part of {images.source}: {scores}
- Input: float32 [batch, {images.channels}, {images.image_size}, {images.image_size}], pixels in
  [0, 1], then normalised by mean and standard deviation {normalise}
- Output: logits of {images.num_classes} classes: {_shortened(images.classes)}

## Load

In this folder:

```python
{source.family.card.replace("(folder)", '(".")')}```

`check.safetensors` holds {num_checked} inputs and the logits recorded for them on one thread.
{others}"""


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _shortened(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
