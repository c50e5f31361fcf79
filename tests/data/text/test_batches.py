"""What holds for the batches of every task, and for each."""

from __future__ import annotations

import json
import logging
from itertools import islice, pairwise
from pathlib import Path

import pytest
import torch

from sortednet_cli.data import Texts, open_texts
from sortednet_cli.data.text.causal import CausalPart
from sortednet_cli.errors import RequestError
from tests.data.text.made import (
    CPU,
    asked,
    labelled,
    opened,
    same,
    sentence,
    spec,
    write_jsonl,
)

TASKS = ("classification", "masked-lm", "causal-lm", "answers")
PADDED = ("classification", "masked-lm")


def parts(texts: Texts) -> list[object]:
    return [texts.train, texts.validation, texts.test]


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_is_a_pure_function_of_seed_and_index(task: str, tmp_path: Path) -> None:
    texts = opened(task, tmp_path)
    options = {"batch_size": 4, "seed": 7, "device": CPU}
    run = list(islice(texts.training_batches(0, **options), 9))
    resumed = list(islice(opened(task, tmp_path).training_batches(3, **options), 4))
    assert all(same(a, b) for a, b in zip(resumed, run[3:7], strict=True))
    strided = texts.training_batches(1, stride=3, count=3, **options)
    assert all(same(a, b) for a, b in zip(strided, run[1::3], strict=True))
    assert not same(texts.training_batch(2, batch_size=4, seed=8, device=CPU), run[2])


@pytest.mark.parametrize("task", TASKS)
def test_shapes_and_names_of_batches(task: str, tmp_path: Path) -> None:
    texts = opened(task, tmp_path)
    for inputs, targets in texts.train.batches(5, CPU):
        ids = inputs["input_ids"]
        assert all(tensor.dtype == torch.int64 for tensor in (*inputs.values(), targets))
        assert all(tensor.shape == ids.shape for tensor in inputs.values())
        assert int(ids.min()) >= 0 and int(ids.max()) < texts.format.vocab_size
        assert targets.shape == (ids.shape[:1] if task == "classification" else ids.shape)
        names = {"attention_mask"} if task in PADDED else {"position_ids"}
        assert set(inputs) - names == {"input_ids"}
        if task in PADDED:
            assert ids.shape[1] % 8 == 0 and ids.shape[1] <= 24
        else:
            assert ids.shape[1] == 24


@pytest.mark.parametrize("task", TASKS)
def test_batches_are_in_order_whole_and_limited(task: str, tmp_path: Path) -> None:
    part = opened(task, tmp_path).train
    counts = [len(targets) for _, targets in part.batches(3, CPU)]
    assert sum(counts) == len(part) > 4 and set(counts[:-1]) == {3}
    limited = list(part.batches(3, CPU, limit=4))
    assert [len(targets) for _, targets in limited] == [3, 1]
    assert same(limited[0], next(part.batches(3, CPU)))
    assert sum(len(y) for _, y in part.batches(3, CPU, limit=10_000)) == len(part)


@pytest.mark.parametrize("task", TASKS)
def test_an_epoch_holds_each_sample_at_most_once(task: str, tmp_path: Path) -> None:
    texts = opened(task, tmp_path)
    seen = texts.batches_per_epoch(2)
    assert seen == len(texts.train) // 2
    with pytest.raises(RequestError, match=r"more than the \d+ training sequences$"):
        texts.batches_per_epoch(10_000)


@pytest.mark.parametrize("task", PADDED)
def test_what_is_given_of_a_sample_does_not_depend_on_its_batch(task: str, tmp_path: Path) -> None:
    part = opened(task, tmp_path).validation
    together = next(part.batches(len(part), CPU))
    for row, (inputs, targets) in enumerate(part.batches(1, CPU)):
        width = inputs["input_ids"].shape[1]
        whole = torch.ones(1, width, dtype=torch.int64)
        own = inputs.get("attention_mask", whole).bool()[0]
        other = together[0]["input_ids"][row]
        assert torch.equal(inputs["input_ids"][0][own], other[:width][own])
        mask = together[0].get("attention_mask", torch.ones_like(together[0]["input_ids"]))
        assert int(mask[row].sum()) == int(own.sum())
        if task == "masked-lm":
            assert torch.equal(targets[0], together[1][row, :width])
            assert (together[1][row, width:] == -100).all()


def test_no_attention_mask_where_nothing_is_padding(tmp_path: Path) -> None:
    rows = [{"text": sentence(i, 30), "label": i % 2} for i in range(20)]
    texts = open_texts(
        spec(write_jsonl(tmp_path / "a.jsonl", rows), max_length=8), "classification"
    )
    inputs, _ = next(texts.train.batches(4, CPU))
    assert set(inputs) == {"input_ids"} and inputs["input_ids"].shape[1] == 8


def test_every_token_of_a_stream_is_predicted_once(tmp_path: Path) -> None:
    texts = opened("causal-lm", tmp_path)
    part = texts.train
    assert isinstance(part, CausalPart)
    ids, targets = [], []
    for inputs, wanted in part.batches(3, CPU):
        ids.append(inputs["input_ids"].flatten())
        targets.append(wanted.flatten())
    stream, wanted = torch.cat(ids), torch.cat(targets)
    begin, end = texts.format.bos_id, texts.format.eos_id
    last = int((stream == end).nonzero()[-1])
    assert (stream[last + 1 :] == texts.format.pad_id).all()
    expected = torch.where(stream[:last] == end, -100, stream[1 : last + 1])
    assert torch.equal(wanted[:last], expected)
    assert (wanted[last:] == -100).all()
    assert int((stream == begin).sum()) == 28 and part.num_targets == int((wanted != -100).sum())


def test_a_stream_holds_its_documents_whole(tmp_path: Path) -> None:
    texts = opened("causal-lm", tmp_path)
    stream = torch.cat([x["input_ids"].flatten() for x, _ in texts.train.batches(3, CPU)])
    pieces = texts.tokenizer.decode(stream).split("<|begin|>")[1:]
    found = [piece.split("<|end|>")[0] for piece in pieces]
    everything = [str(row["text"]) for row in labelled()]
    assert len(found) == 28 and set(found) <= set(everything)
    assert texts.train.num_bytes == sum(len(text.encode()) for text in found)


def test_positions_start_again_at_seams_alone(tmp_path: Path) -> None:
    texts = opened("causal-lm", tmp_path)
    for inputs, targets in texts.train.batches(1, CPU):
        ids = inputs["input_ids"][0].tolist()
        places = [i for i, token in enumerate(ids) if token == texts.format.bos_id]
        assert ("position_ids" in inputs) == any(places)
        if any(places):
            starts = sorted({0, *places, len(ids)})
            expected = [i for a, b in pairwise(starts) for i in range(b - a)]
            assert inputs["position_ids"][0].tolist() == expected
        assert all(targets[0, place - 1] == -100 for place in places if place)


def test_a_document_over_several_windows_has_no_seam(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(sentence(1, 200))
    (tmp_path / "test.txt").write_text(sentence(2, 3))
    texts = open_texts(spec(tmp_path), "causal-lm")
    assert all(set(inputs) == {"input_ids"} for inputs, _ in texts.train.batches(2, CPU))
    assert len(texts.test) == 1
    inputs, targets = next(texts.test.batches(4, CPU))
    assert texts.tokenizer.decode(inputs["input_ids"][0][targets[0] != -100]) == (
        f"<|begin|>{sentence(2, 3)}"
    )
    assert texts.test.num_bytes == len(sentence(2, 3).encode())


def test_transformers_sees_the_seams(tmp_path: Path) -> None:
    from transformers.masking_utils import find_packed_sequence_indices

    inputs, _ = next(opened("causal-lm", tmp_path).train.batches(3, CPU))
    found = find_packed_sequence_indices(inputs["position_ids"])
    begins = inputs["input_ids"] == 0
    begins[:, 0] = False
    assert found is not None and torch.equal(found, begins.cumsum(1))


def test_only_answers_are_scored(tmp_path: Path) -> None:
    texts = opened("answers", tmp_path)
    expected = {str(row["answer"]): f"{row['question']}\n{row['answer']}" for row in asked()}
    found = []
    for inputs, targets in texts.train.batches(1, CPU):
        ids = inputs["input_ids"][0]
        positions = inputs.get("position_ids", torch.arange(24)[None])[0]
        starts = [*(positions == 0).nonzero().flatten().tolist(), 24]
        for a, b in pairwise(starts):
            own, wanted = ids[a:b], targets[0, a:b]
            scored = wanted[wanted != -100]
            assert scored[-1] == texts.format.eos_id
            answer = texts.tokenizer.decode(scored[:-1])
            whole = texts.tokenizer.decode(own).removesuffix("<|pad|>")
            assert whole.startswith(f"<|begin|>{expected[answer]}<|end|>")
            assert set(own[len(own) - int((own == texts.format.pad_id).sum()) :].tolist()) <= {
                texts.format.pad_id
            }
            found.append(answer)
    assert len(found) == len(set(found)) == 28
    assert texts.train.num_bytes == sum(len(answer.encode()) for answer in found)
    assert texts.train.num_targets == sum(
        int((targets != -100).sum()) for _, targets in texts.train.batches(4, CPU)
    )


def test_answers_are_packed(tmp_path: Path) -> None:
    train = opened("answers", tmp_path, max_length=64).train
    assert len(train) < 14
    assert all("position_ids" in inputs for inputs, _ in train.batches(4, CPU))


@pytest.mark.parametrize("long", ["question", "answer"])
def test_answers_that_are_too_long(
    long: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"question": "where?", "answer": "here"}
    row[long] = "".join(f"{i:03d}" for i in range(40))
    rows = [{"question": "q", "answer": "a"}] * 19 + [row]
    for part in ("train", "test"):
        write_jsonl(tmp_path / f"{part}.jsonl", list(rows))
    with caplog.at_level(logging.WARNING, "sortednet"):
        texts = open_texts(spec(tmp_path, max_length=16), "answers")
    assert texts.test.num_bytes < 19 + len(row["question"] + row["answer"])
    inputs, targets = next(texts.test.batches(99, CPU))
    full = (
        [i for i in range(len(targets)) if "where" in row["question"]] if 0 else range(len(targets))
    )
    decoded = [texts.tokenizer.decode(targets[i][targets[i] != -100]) for i in full]
    asked_whole = [texts.tokenizer.decode(inputs["input_ids"][i]) for i in full]
    if long == "answer":
        assert any(a.startswith("000001") and not a.endswith("<|end|>") for a in decoded)
    else:
        assert any(a == "here<|end|>" for a in decoded)
        assert any("039\nhere" in whole and "000" not in whole for whole in asked_whole)
    assert len(caplog.records) == 1
    assert "of 40 sequences are longer than 16 tokens and were truncated" in caplog.text


def test_evaluation_hides_the_same_tokens_and_training_others(tmp_path: Path) -> None:
    texts, again = (opened("masked-lm", tmp_path) for _ in range(2))
    one = list(texts.validation.batches(99, CPU))
    assert all(same(a, b) for a, b in zip(one, again.validation.batches(99, CPU), strict=True))
    targets = [
        texts.training_batch(i, batch_size=len(texts.train), seed=0, device=CPU)[1] != -100
        for i in (0, 1)
    ]
    assert not torch.equal(*(t.float().sort(0).values for t in targets))


def test_what_masking_hides(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("\n".join(sentence(i, 9) for i in range(2000)))
    # 24 tokens between the special ones, so that a quarter is a whole number.
    texts = open_texts(spec(tmp_path, mask=0.25, max_length=26), "masked-lm")
    special = torch.tensor([texts.tokenizer.cls_token_id, texts.tokenizer.sep_token_id])
    inputs, targets = texts.training_batch(0, batch_size=len(texts.train), seed=0, device=CPU)
    ids, hidden = inputs["input_ids"], targets != -100
    assert not torch.isin(targets[hidden], special).any()
    assert (ids[:, 0] == texts.tokenizer.cls_token_id).all()
    assert (hidden.sum(1) >= 1).all()
    inner = inputs.get("attention_mask", torch.ones_like(ids)).sum() - 2 * len(ids)
    assert abs(float(hidden.sum() / inner) - 0.25) < 0.02
    shown = ids[hidden]
    assert abs(float((shown == texts.tokenizer.mask_token_id).float().mean()) - 0.8) < 0.03
    assert abs(float((shown == targets[hidden]).float().mean()) - 0.1) < 0.03
    whole = torch.where(hidden, targets, ids)
    whole_again = next(texts.train.batches(len(whole), CPU))
    restored = torch.where(whole_again[1] == -100, whole_again[0]["input_ids"], whole_again[1])
    assert torch.equal(*(rows.sort(0).values for rows in (whole, restored)))


def test_pairs(tmp_path: Path) -> None:
    texts = opened("classification", tmp_path, pair="pair", max_length=64)
    decoded = set()
    for part in parts(texts):
        for inputs, _ in part.batches(1, CPU):
            decoded.add(texts.tokenizer.decode(inputs["input_ids"][0]).replace("<|pad|>", ""))
    assert decoded == {f"<|cls|>{r['text']}<|sep|>{r['pair']}<|sep|>" for r in labelled()}


def test_segments_of_pairs_where_the_tokenizer_gives_them(tmp_path: Path) -> None:
    from tokenizers import processors

    trained = opened("classification", tmp_path).tokenizer
    trained.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|cls|> $A <|sep|>",
        pair="<|cls|> $A <|sep|> $B:1 <|sep|>:1",
        special_tokens=[
            (token, trained.convert_tokens_to_ids(token)) for token in ("<|cls|>", "<|sep|>")
        ],
    )
    trained.save_pretrained(tmp_path / "tokenizer")
    settings = tmp_path / "tokenizer" / "tokenizer_config.json"
    names = ["input_ids", "token_type_ids", "attention_mask"]
    settings.write_text(
        json.dumps({**json.loads(settings.read_text()), "model_input_names": names})
    )
    texts = opened("classification", tmp_path, tokenizer=tmp_path / "tokenizer", pair="pair")
    for inputs, _ in texts.train.batches(4, CPU):
        for ids, kinds in zip(inputs["input_ids"], inputs["token_type_ids"], strict=True):
            first, last = (ids == texts.tokenizer.sep_token_id).nonzero().flatten().tolist()
            expected = [0] * (first + 1) + [1] * (last - first) + [0] * (len(ids) - last - 1)
            assert kinds.tolist() == expected
    alone = opened("classification", tmp_path, tokenizer=tmp_path / "tokenizer")
    assert "token_type_ids" not in next(alone.train.batches(4, CPU))[0]
