"""Plain, speculative and early-exit decoding beside transformers' own, on a finished run.

    sortednet train --preset gsm8k-llama --data gsm8k
    sortednet train --preset gsm8k-llama --data gsm8k --set train.rule=single --out runs/unsorted
    python -m benchmarks.speed.decoding runs/gsm8k-llama --unsorted runs/unsorted \\
        --data gsm8k/test.jsonl

Nothing is trained. All ways decode the same prompts in one process, prompt by prompt in turn, so
that what else the machine does falls on all of them. Draft depth and length of "best fixed", and
the exit of transformers' assistant_early_exit, are chosen on prompts of their own before. Writes
benchmarks/results/decoding.json and, with --plot, the picture of acceptance.

With --bounds it decodes greedily alone, and prints and writes (draft_bounds.json) what layer times
and acceptance allow of drafts: a chain, the second candidate of an uncertain last token beside it
(`leaf`), two whole branches from the first uncertain token on (`tree`), and prompt look-up.

With --look-up it times greedy decoding, prompt look-up and the automatic way alone, by the clock of
CPU time on one thread, prints their table and writes it (look_up.json).
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
from sortednet_cli.engine.generation.timings import MAX_ROWS, LayerTimings

COUNTS = ("acceptance", "tokens_per_pass", "rounds")
PILOTS = 3


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    run = load_run(options.run)
    made = Bench(run, options.max_new_tokens)
    prompts = made.encode(options.data, options.prompts + PILOTS)
    pilots, prompts = prompts[:PILOTS], prompts[PILOTS:]
    if options.bounds:
        result = made.bounds(prompts) | {"run": run.name, "threads": options.threads}
        print(bounds_table(result))
        write("draft_bounds", result, options.out)
        return
    if options.look_up:
        ways = made.looking_up()
        take_turns(ways, pilots[0], prompts)
        shared = {"run": run.name, "prompts": len(prompts), "threads": options.threads}
        result = shared | {"ways": [record(way, ways) for way in ways]}
        print(look_up_table(result))
        write("look_up", result, options.out)
        return
    ways = made.ways(pilots)
    take_turns(ways, pilots[0], prompts)
    result = {
        "run": run.name,
        "prompts": len(prompts),
        "max_new_tokens": options.max_new_tokens,
        "threads": options.threads,
        "ways": [record(way, ways) for way in ways],
        "bound": bound(made.decoder.timings, made.agreements(prompts, ways[0].outputs)),
        "drafts": made.bounds(prompts, ways[0].outputs),
        "pace_microseconds": {
            "layer": [round(s * 1e6, 1) for s in made.decoder.timings.layer[1:]],
            "head": [round(s * 1e6, 1) for s in made.decoder.timings.head[1:]],
        },
        "acceptance": {"sorted": made.acceptance(prompts, ways[0].outputs)},
    }
    if options.unsorted:
        other = Bench(load_run(options.unsorted), options.max_new_tokens)
        plain, drafting = other.plain(), other.speculative("drafting", *made.fixed)
        for prompt in prompts:
            plain.take(prompt)
            drafting.take(prompt)
        result["acceptance"]["unsorted"] = other.acceptance(prompts, plain.outputs)
        result["unsorted"] = record(drafting, [plain, drafting])
    print(table(result), acceptance_table(result), sep="\n\n")
    write("decoding", result, options.out)
    if options.plot:
        draw(result["acceptance"], options.plot)


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


def bound(pace: LayerTimings, agreements: dict[int, list[list[bool]]]) -> list[dict[str, Any]]:
    """What times of layers and head allow at each draft depth, as a ratio to plain decoding.

    `fixed`: the best fixed number of drafts. `perfect`: a drafter that stops just before its
    first wrong token. Both count nothing but layers and heads.
    """
    depth = max(agreements)
    plain = pace.step(depth)
    found = []
    for exit_depth, texts in agreements.items():
        if exit_depth == depth:
            continue

        def cost(drafts: int, exit_depth: int = exit_depth) -> float:
            rows = drafts + 1
            above = (depth - exit_depth) * pace.layer[rows] + pace.head[rows]
            return rows * exit_depth * pace.layer[1] + drafts * pace.head[1] + above

        tokens = sum(map(len, texts))
        fixed = min(
            sum(cost(length) for text in texts for _ in rounds(text, length))
            for length in range(1, MAX_ROWS)
        )
        perfect = sum(cost(run) for text in texts for run in rounds(text, MAX_ROWS - 1))
        found.append(
            {
                "depth": exit_depth,
                "fixed": tokens * plain / fixed,
                "perfect": tokens * plain / perfect,
            }
        )
    return found


def rounds(text: Sequence[bool], most: int) -> list[int]:
    """How many drafts each round accepts where at most `most` are made."""
    found, place = [], 0
    while place < len(text):
        run = 0
        while run < most and place + run < len(text) and text[place + run]:
            run += 1
        found.append(run)
        place += run + 1
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
    for row in result["depths"]:
        gains = " | ".join(f"{row[kind]['gain']:.2f}" for kind in KINDS)
        lines.append(f"| {row['depth']} | {row['acceptance']:.3f} | {gains} |")
    lines.append(f"| prompt look-up | | {result['look_up']['gain']:.2f} | | |")
    return "\n".join(lines)


def look_up_table(result: dict[str, Any]) -> str:
    """Rates beside greedy decoding of the ways that look drafts up."""
    lines = ["| way | of greedy | acceptance | tokens a pass | texts identical | rounds |"]
    lines.append("|" + " --- |" * 6)
    for way in result["ways"]:
        accepted, rounds = way["acceptance"], way["rounds"] or {}
        shown = ", ".join(f"{count} {name}" for name, count in sorted(rounds.items()))
        lines.append(
            f"| {way['name']} | {way['of_greedy']:.2f} |"
            f" {'' if accepted is None else f'{accepted:.2f}'} | {way['tokens_per_pass']:.2f} |"
            f" {way['texts_identical']} of {result['prompts']} | {shown} |"
        )
    return "\n".join(lines)


def acceptance_table(result: dict[str, Any]) -> str:
    """By draft depth: how often it is accepted, and what that could gain."""
    lines = [
        "| draft depth | acceptance | unsorted | bound, fixed drafts | bound, perfect drafts |",
        "|" + " --- |" * 5,
    ]
    accepted = {
        name: {int(depth): share for depth, share in shares.items()}
        for name, shares in result["acceptance"].items()
    }
    for row in result["bound"]:
        depth = row["depth"]
        other = accepted.get("unsorted", {}).get(depth)
        shown = "" if other is None else f"{other:.3f}"
        lines.append(
            f"| {depth} | {accepted['sorted'][depth]:.3f} | {shown}"
            f" | {row['fixed']:.2f} | {row['perfect']:.2f} |"
        )
    return "\n".join(lines)


COMMANDS = {
    "speculative, auto": "`generate --mode speculative`",
    "greedy": "`generate` (greedy)",
    "transformers assistant_early_exit=1": "transformers `assistant_early_exit=1`",
    "transformers greedy": "transformers greedy",
}


def short_table(result: dict[str, Any]) -> str:
    """The ways that a user has without choosing anything."""
    ways = {way["name"]: way for way in result["ways"]}
    lines = ["| decoding | tokens/s | speed-up over transformers greedy | same text as greedy |"]
    lines.append("|" + " --- |" * 4)
    for name, command in COMMANDS.items():
        way = ways[name]
        lines.append(
            f"| {command} | {way['tokens_per_second']:.1f} | {way['of_transformers_greedy']:.2f}"
            f" | {way['texts_identical']} of {result['prompts']} |"
        )
    return "\n".join(lines)


def draw(acceptance: dict[str, dict[int, float]], path: Path) -> None:
    """Draw acceptance by draft depth."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    for (name, shares), style in zip(acceptance.items(), ("o-", "s--"), strict=False):
        axes.plot(list(shares), list(shares.values()), style, label=f"{name} training")
    axes.set_xlabel("draft depth (layers)")
    axes.set_ylabel("share of greedy tokens it would say")
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--unsorted", type=Path, help="the same network trained by rule single")
    parser.add_argument("--data", type=Path, required=True, help="JSONL with `question`")
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--max-new-tokens", type=int, default=160)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bounds", action="store_true", help="only what drafts could gain")
    parser.add_argument("--look-up", action="store_true", help="only ways that look drafts up")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    tell(main)
