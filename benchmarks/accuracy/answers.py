"""What each exit of a tuned language model answers, beside the model before and tuned alone.

    python -m benchmarks.accuracy.answers gsm8k-smollm2 --data gsm8k --questions 200

Trains the preset, the largest sub-model alone on the same samples, and the preset for one update at
a learning rate that changes nothing: the model as it was, cut at each depth. For each exit: the
perplexity of the answers of the test part, and how many of its first questions are answered
exactly. The tokens are greedy, made by transformers' own `generate`; the answer is the number
after the last `####`. With `--only nested` the other two are those of the result that is there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from benchmarks.accuracy.trainings import (
    ALONE,
    Result,
    Trainer,
    Training,
    add_options,
    largest,
    trainer_of,
)
from benchmarks.harness import RESULTS, tell, write
from sortednet_cli import load_run
from sortednet_cli.spec import presets

UNTRAINED = ("train.lr=1e-12", "train.warmup=0")
"""A learning rate that changes nothing; the training has one update."""
BATCH = 50
MARK = "####"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=presets.names())
    parser.add_argument("--questions", type=int, default=200, help="to answer; the first of test")
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--set", action="append", default=[], help="for all trainings")
    parser.add_argument("--nested-set", action="append", default=[], help="for the nested network")
    parser.add_argument("--alone-set", action="append", default=[], help="for the largest alone")
    parser.add_argument(
        "--only",
        action="append",
        choices=["nested", "untrained", "alone"],
        help="train this one, and take the others from the result that is there",
    )
    parser.add_argument("--out", type=Path, help="the file of the result")
    add_options(parser)
    options = parser.parse_args()
    if options.data is None:
        parser.error("--data is missing: the folder with train.jsonl and test.jsonl")
    trainings = {
        "nested": (*options.set, *options.nested_set),
        "untrained": (*options.set, "train.updates=1", *UNTRAINED),
        "alone": (*options.set, *ALONE, *options.alone_set),
    }
    trainer = trainer_of(options)
    out = options.out or RESULTS / f"answers_{options.preset.replace('-', '_')}.json"
    asked = {
        name: Training(f"{options.preset}-{name}", options.preset, settings)
        for name, settings in trainings.items()
        if options.only is None or name in options.only
    }
    result = {
        "preset": options.preset,
        "questions": options.questions,
        "max_new_tokens": options.max_new_tokens,
    }
    kept = {} if len(asked) == len(trainings) else kept_results(out, result)
    found = dict(zip(asked, trainer.results(asked.values()), strict=True))
    for name, own in found.items():
        answer(trainer, asked[name], own, options)
    result["results"] = kept | found
    write(out.stem, result, out)
    print(table(result))


def kept_results(path: Path, asked: dict[str, Any]) -> dict[str, Result]:
    """Results of an earlier call that asked the same questions."""
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if any(kept.get(key) != value for key, value in asked.items()):
        raise SystemExit(f"error: {path.name} is not about {asked}: leave --only away")
    results: dict[str, Result] = kept["results"]
    return results


def answer(trainer: Trainer, training: Training, own: Result, options: argparse.Namespace) -> None:
    """Add the number of exact answers to each row of a result; they are kept beside the run."""
    run = trainer.folder(training)
    kept = run.with_name(f"{run.name}-exact-{options.questions}-{options.max_new_tokens}.json")
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    asked = read_questions(options.data / "test.jsonl", options.questions)
    rows = own["rows"]
    if "train.rule=single" in own["settings"]:  # nothing trained the others
        rows = own["rows"] = [largest(own)]
    for row in rows:
        if row["name"] not in found:
            found[row["name"]] = num_exact(run, row["axes"], asked, options.max_new_tokens)
            kept.write_text(json.dumps(found), encoding="utf-8")
            told = f"{own['name']} {row['name']}: {found[row['name']]} of {len(asked)}"
            print(told, file=sys.stderr)
        row["exact"] = found[row["name"]]


def read_questions(path: Path, count: int) -> list[tuple[str, str]]:
    """The first questions with the numbers that answer them."""
    lines = path.read_text(encoding="utf-8").splitlines()[:count]
    records = [json.loads(line) for line in lines]
    return [(record["question"], number_of(record["answer"])) for record in records]


def number_of(text: str) -> str:
    """What stands after the last mark, without separators of thousands; "" without a mark."""
    return text.rpartition(MARK)[2].strip().replace(",", "") if MARK in text else ""


def num_exact(
    run: Path, axes: dict[str, Any], asked: list[tuple[str, str]], max_new_tokens: int
) -> int:
    """How many questions a sub-model of a run answers exactly."""
    loaded = load_run(run)
    tokenizer = AutoTokenizer.from_pretrained(loaded.tokenizer, padding_side="left")
    module: Any = loaded.network().at(**axes).eval()
    exact = 0
    for batch in batches(asked):
        prompts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
            )
            for question, _ in batch
        ]
        given = tokenizer(prompts, padding=True, add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            made = module.generate(
                **given,
                do_sample=False,
                max_new_tokens=max_new_tokens,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        texts = tokenizer.batch_decode(
            made[:, given["input_ids"].shape[1] :], skip_special_tokens=True
        )
        exact += sum(
            number_of(text) == number for text, (_, number) in zip(texts, batch, strict=True)
        )
    return exact


def batches(asked: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Questions of similar lengths together, so that little is padded."""
    ordered = sorted(asked, key=lambda pair: len(pair[0]))
    for start in range(0, len(ordered), BATCH):
        yield ordered[start : start + BATCH]


def table(result: Result) -> str:
    """Markdown of the exits: perplexity of answers, and exact answers."""
    asked = result["questions"]
    nested, untrained, alone = (
        {row["axes"]["depth"]: row for row in result["results"][name]["rows"]}
        for name in ("nested", "untrained", "alone")
    )
    lines = [
        "| layers | parameters | perplexity: before | sorted | alone |"
        f" exact of {asked}: before | sorted | alone |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for depth in sorted(nested):
        kinds = [kind.get(depth) for kind in (untrained, nested, alone)]
        perplexities = [perplexity(row) if row else "" for row in kinds]
        exact = [str(row["exact"]) if row else "" for row in kinds]
        params = f"{nested[depth]['params'] / 1e6:.1f} M"
        lines.append("| " + " | ".join([str(depth), params, *perplexities, *exact]) + " |")
    return "\n".join(lines)


def perplexity(row: dict[str, Any]) -> str:
    value = row["metrics"]["test"]["perplexity"]
    return f"{value:.3f}" if value < 100 else f"{value:,.0f}"


if __name__ == "__main__":
    tell(main)
