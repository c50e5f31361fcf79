"""`sortednet serve` for a run of images."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from sortednet_cli import load_run
from sortednet_cli.data.images.format import scale_and_shift
from tests.commands import command, refused
from tests.served import Served, serving

NAME = "digits-resnet"
BOUNDARY = "frontier-of-parts"


@pytest.fixture(scope="module")
def served(trained: Path) -> Iterator[Served]:
    with serving(trained) as server:
        yield server


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    """PNG files of some digits."""
    files = []
    for pixels in load_digits().images[:4]:
        file = io.BytesIO()
        Image.fromarray((pixels * 255 / 16).round().astype(np.uint8)).save(file, "PNG")
        files.append(file.getvalue())
    return files


def form(image: bytes | None, **fields: str) -> bytes:
    """A multipart body."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    if image is not None:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.png"'
        parts.append(f"{head}\r\nContent-Type: image/png\r\n\r\n".encode() + image + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def expected(run: Path, image: bytes, width: float, depth: int) -> torch.Tensor:
    loaded = load_run(run)
    scale, shift = scale_and_shift(loaded.format)  # type: ignore[arg-type]
    pixels = torch.tensor(np.asarray(Image.open(io.BytesIO(image))))[None, None]
    with torch.no_grad():
        logits = loaded.network().at(width=width, depth=depth)(pixels * scale + shift)
    result: torch.Tensor = logits[0].softmax(-1)
    return result


@pytest.mark.parametrize(("width", "depth"), [(1.0, 8), (0.5, 1)])
def test_probabilities_are_the_sub_models(
    trained: Path, served: Served, images: list[bytes], width: float, depth: int
) -> None:
    model = f"{NAME}:w{width:g}-d{depth}"
    for image in images:
        answers = [
            served.ask("POST", f"/classify?model={model}", image, content_type="image/png"),
            served.ask(
                "POST",
                "/classify",
                form(image, model=model),
                content_type=f"multipart/form-data; boundary={BOUNDARY}",
            ),
        ]
        wanted = expected(trained, image, width, depth)
        for answer in answers:
            assert answer.status == 200, answer
            document = answer.document
            assert document["model"] == model
            assert document["label"] == str(int(wanted.argmax()))
            found = [document["probabilities"][str(digit)] for digit in range(10)]
            assert torch.allclose(torch.tensor(found), wanted, atol=1e-6)


def test_sizes_by_name_and_by_time(served: Served, images: list[bytes]) -> None:
    assert served.ask("POST", "/classify", images[0]).document["model"] == f"{NAME}:w1-d8"
    auto = f"/classify?model={NAME}:auto&max_latency_ms="
    document = served.ask("POST", f"{auto}1e5", images[0]).document
    assert 0 < document["sortednet"]["latency_ms"] < 1e5
    assert served.ask("POST", f"{auto}1e-6", images[0]).status == 400
    assert "positive number" in served.ask("POST", f"{auto}soon", images[0]).error["message"]
    near = served.ask("POST", f"/classify?model={NAME}:w1-d9", images[0])
    assert (near.status, "did you mean w1-d8?" in near.error["message"]) == (404, True)


def test_what_is_no_image(served: Served, images: list[bytes]) -> None:
    media = f"multipart/form-data; boundary={BOUNDARY}"
    for path, body, kind, status, said in (
        ("/classify", b"", "image/png", 400, "it is empty"),
        ("/classify", b"no image", "image/png", 400, "Pillow does not know its format"),
        ("/classify", images[0][:40], "image/png", 400, "not a readable image"),
        ("/classify", b"x" * (32 * 2**20 + 1), "image/png", 413, "more than 33,554,432 bytes"),
        ("/classify?size=3", images[0], "image/png", 400, "unknown field 'size'"),
        ("/classify", form(None), media, 400, "the form has no file"),
        ("/classify", form(images[0], colour="red"), media, 400, "unknown field 'colour'"),
        ("/classify", b"no form", media, 400, "multipart body cannot be read"),
        ("/classify", images[0], "multipart/form-data", 400, "multipart body cannot be read"),
    ):
        answer = served.ask("POST", path, body, content_type=kind)
        assert (answer.status, said in answer.error["message"]) == (status, True), answer


def test_there_are_no_texts(served: Served) -> None:
    assert served.post("/v1/completions", {"model": NAME, "prompt": "a"}).status == 404
    names = [model["id"] for model in served.ask("GET", "/v1/models").document["data"]]
    assert names[:3] == [NAME, f"{NAME}:auto", f"{NAME}:w1-d8"] and len(names) == 6


TEXTS = """
task = "classification"
[model]
family = "bert"
[model.config]
hidden_size = 16
num_hidden_layers = 2
num_attention_heads = 2
intermediate_size = 16
[space]
depth = [1, 2]
[train]
updates = 2
batch_size = 4
[data]
source = "text"
path = "texts.csv"
vocab_size = 300
max_length = 16
"""


def test_classifiers_of_texts_are_refused(work: Path) -> None:
    Path("texts.csv").write_text("text,label\n" + "good,1\nbad,0\n" * 40)
    Path("texts.toml").write_text(TEXTS)
    done = command("train", "--config=texts.toml", "--quiet", "--out=bert")
    assert done.code == 0, done
    refused(command("serve", "bert", "--port=0"), 2, "bert is for classification")
