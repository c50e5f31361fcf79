"""The model card of an artifact: metadata, a description, and the lines that load the model."""

from __future__ import annotations

from pathlib import Path

from sortednet_cli.engine.export.formats import Format
from sortednet_cli.engine.export.metadata import card_metadata
from sortednet_cli.engine.export.verify import Verification
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.space import format_count
from sortednet_cli.storage.artifact import has_tokenizer

_TRAINED = "A sub-model cut out of the nested network `{name}`. It stands alone."
_UNTRAINED = (
    "A part of the checkpoint `{name}`, cut out of it. **It is a starting point, not a good"
    " model:** nobody trained the parts of that checkpoint to work alone. Train it first."
)


def model_card(
    source: Source, row: Row, verified: Verification, folder: Path, further: Format | None
) -> str:
    """Write the card of an artifact as Markdown.

    Args:
        verified: what was verified; the logits of its samples are stored in the artifact.
        folder: the artifact's folder, with its tokenizer if it has one.
        further: the format of the further file, if there is one.
    """
    further_file, exported = "", verified.exported
    if further is not None and exported is not None:
        further_file = f"`{further.file}` {further.description(exported)}\n"
        if exported.max_abs_diff is None:
            further_file += (
                f"Its outputs are **unverified**: nothing here runs {further.runtime}.\n"
            )
    inputs, test = source.format, row.metrics.get("test", {})
    scores = ", ".join(f"{name} {value:.4g}" for name, value in test.items()) or "not measured"
    scored = f"- Test part of {inputs.source}: {scores}\n" if source.rows else ""
    tokenized = has_tokenizer(folder)
    lines = "\n".join(inputs.card_lines(tokenized))
    code = source.family.card + (source.family.tokenizer_card if tokenized else "")
    verification = "Every tensor was compared with its slice of the source."
    if verified.samples:
        verification = (
            f"`check.safetensors` holds {verified.samples} inputs and their logits, computed on one"
            " thread."
        )
    origin = (_TRAINED if source.rows else _UNTRAINED).format(name=source.name)
    macs = f"{format_count(row.macs)} per {inputs.unit}"
    return f"""{card_metadata(source, row)}
# {source.name} {row.submodel}

{origin}

- Parameters: {format_count(row.params)}; multiply-adds: {macs}
{scored}{lines}

## Load

In this folder:

```python
{code.replace("(folder)", '(".")')}```

From the Hugging Face Hub, by its name there: `{source.family.hub_card}`.

{verification}
{further_file}"""
