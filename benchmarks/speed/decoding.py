"""Plain, speculative and early-exit decoding beside transformers' own, on a finished run.

    sortednet train --preset gsm8k-smollm2 --data gsm8k
    sortednet generate runs/gsm8k-smollm2 --calibrate
    python -m benchmarks.speed.decoding runs/gsm8k-smollm2 --data gsm8k/test.jsonl

Nothing is trained. All ways decode the same prompts in one process, prompt by prompt in turn, so
that what else the machine does falls on all of them. Draft depth and length of "best fixed", and
the exit of transformers' assistant_early_exit, are chosen on prompts of their own before. Then it
counts what layer times and acceptance allow of drafts: a chain, the second candidate of an
uncertain last token beside it (`leaf`), two whole branches from the first uncertain token on
(`tree`), and prompt look-up. Writes benchmarks/results/decoding.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.harness import tell, write
from benchmarks.speed.decoding_ways import Bench, Way, take_turns
from benchmarks.speed.draft_bounds import KINDS
from sortednet_cli import load_run

COUNTS = ("acceptance", "tokens_per_pass", "rounds")
PILOTS = 2


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    run = load_run(options.run)
    made = Bench(run, options.max_new_tokens)
    prompts = made.encode(options.data, options.prompts + PILOTS)
    pilots, prompts = prompts[:PILOTS], prompts[PILOTS:]
    ways = made.ways(pilots)
    take_turns(ways, pilots[0], prompts)
    result = {
        "run": run.name,
        "prompts": len(prompts),
        "max_new_tokens": options.max_new_tokens,
        "threads": options.threads,
        "ways": [record(way, ways) for way in ways],
        "drafts": made.bounds(prompts, ways[0].outputs),
    }
    print(table(result), bounds_table(result), sep="\n\n")
    write("decoding", result, options.out)


def record(way: Way, ways: Sequence[Way]) -> dict[str, Any]:
    """One line of the table: rates beside ours and theirs, and agreement with greedy."""
    reference = ways[0]
    stock = next((other for other in ways if other.name == "transformers greedy"), None)
    early = next((other for other in ways if "assistant" in other.name), None)
    pairs = list(zip(way.outputs, reference.outputs, strict=True))
    same = sum(a == b for output, wanted in pairs for a, b in zip(output, wanted, strict=False))
    found: dict[str, Any] = {
        "name": way.name,
        "tokens_per_second": way.rate,
        "of_greedy": way.rate / reference.rate,
        "of_transformers_greedy": way.rate / stock.rate if stock else None,
        "of_transformers_early_exit": way.rate / early.rate if early else None,
        "texts_identical": sum(output == wanted for output, wanted in pairs),
        "tokens_agreeing": same / sum(len(wanted) for _, wanted in pairs),
    }
    if way.stats is not None:
        found |= {
            key: way.stats.record().get(key)
            for key in (*COUNTS, "recomputed", "replayed", "changed")
        }
    return found


def table(result: dict[str, Any]) -> str:
    """Rates of all ways, and how far their texts are those of greedy decoding."""
    lines = [
        "| way | tokens/s | of greedy | of transformers greedy | of its early exit | acceptance"
        " | tokens a pass | texts identical | tokens agreeing |",
        "|" + " --- |" * 9,
    ]
    for way in result["ways"]:
        accepted, passes = way.get("acceptance"), way.get("tokens_per_pass")
        lines.append(
            f"| {way['name']} | {way['tokens_per_second']:.1f} | {way['of_greedy']:.2f} |"
            f" {way['of_transformers_greedy']:.2f} | {way['of_transformers_early_exit']:.2f} |"
            f" {'' if accepted is None else f'{accepted:.2f}'} |"
            f" {'' if passes is None else f'{passes:.2f}'} |"
            f" {way['texts_identical']} of {result['prompts']} | {way['tokens_agreeing']:.1%} |"
        )
    return "\n".join(lines)


def bounds_table(result: dict[str, Any]) -> str:
    """By draft depth: what chains and trees of drafts could gain over plain decoding."""
    lines = ["| draft depth | acceptance | chain | leaf | tree |", "|" + " --- |" * 5]
    for row in result["drafts"]["depths"]:
        gains = " | ".join(f"{row[kind]['gain']:.2f}" for kind in KINDS)
        lines.append(f"| {row['depth']} | {row['acceptance']:.3f} | {gains} |")
    lines.append(f"| prompt look-up | | {result['drafts']['look_up']['gain']:.2f} | | |")
    return "\n".join(lines)


COMMANDS = {
    "speculative, auto": "`generate --mode speculative`",
    "greedy": "`generate` (greedy)",
    "transformers prompt look-up": "transformers `prompt_lookup_num_tokens=10`",
    "transformers assistant_early_exit": "transformers `assistant_early_exit`, its best exit",
    "transformers greedy": "transformers greedy",
}


def short_table(result: dict[str, Any]) -> str:
    """The ways that a user has without choosing anything."""
    lines = ["| decoding | tokens/s | speed-up over transformers greedy | same text as greedy |"]
    lines.append("|" + " --- |" * 4)
    for name, command in COMMANDS.items():
        way = next(way for way in result["ways"] if way["name"].startswith(name))
        lines.append(
            f"| {command} | {way['tokens_per_second']:.1f} | {way['of_transformers_greedy']:.2f}"
            f" | {way['texts_identical']} of {result['prompts']} |"
        )
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="JSONL with `question`")
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--max-new-tokens", type=int, default=160)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    tell(main)
