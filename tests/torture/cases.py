"""The trainings that are killed: tiny ones of both kinds, every update checkpointed."""

from __future__ import annotations

import pydoc_data.topics
from dataclasses import dataclass
from pathlib import Path

UPDATES = 4

_ALWAYS = (
    f"--set=train.updates={UPDATES}",
    "--set=train.log_every=1",
    "--set=train.checkpoint_minutes=1e-6",
    "--device=cpu",
)
_IMAGES = (
    "--preset=digits-resnet",
    "--set=space.width=[0.5,1.0]",
    "--set=space.depth=[1,8]",
    "--set=model.config.channels=[8]",
    *_ALWAYS,
)
_TEXTS = (
    "--preset=pydoc-llama",
    "--set=data.source=text",
    "--set=train.batch_size=4",
    "--set=model.config.hidden_size=16",
    "--set=model.config.num_hidden_layers=2",
    "--set=model.config.intermediate_size=32",
    "--set=space.depth=[1,2]",
    "--set=data.vocab_size=400",
    "--set=data.max_length=32",
    *_ALWAYS,
)


@dataclass(frozen=True)
class Case:
    """Arguments of `train`; with a file that `write_text` makes where it reads texts."""

    name: str
    arguments: tuple[str, ...]
    reads_text: bool = False

    def words(self, text: Path) -> list[str]:
        """The arguments that begin this training in the folder `run`."""
        data = ["--data", str(text)] if self.reads_text else []
        return ["train", *self.arguments, *data, "--out", "run"]


CASES = [
    Case("images, sorted", _IMAGES),
    Case(
        "images, sandwich, distill",
        (*_IMAGES, "--set=train.rule=sandwich", *["--set=train.distill=true"]),
    ),
    Case(
        "images, adamw, channels last",
        (
            *_IMAGES,
            "--set=train.optimizer=adamw",
            "--set=train.lr=0.01",
            "--set=train.channels_last=true",
            "--set=train.accumulate=2",
        ),
    ),
    Case("language, sum", _TEXTS, reads_text=True),
    Case(
        "language, sorted, dropout",
        (
            *_TEXTS,
            "--set=train.rule=sorted",
            "--set=model.config.attention_dropout=0.1",
        ),
        reads_text=True,
    ),
]


def write_text(file: Path) -> Path:
    """Write some pages of Python's reference text."""
    pages = [pydoc_data.topics.topics[name] for name in ("with", "try", "class", "import")]
    file.write_text("\n\n".join(pages), encoding="utf-8")
    return file.absolute()
