"""Greedy decoding beside llama.cpp, with the same weights, prompts and threads.

    pip install llama-cpp-python
    sortednet extract runs/gsm8k-smollm2 --out whole
    python llama.cpp/convert_hf_to_gguf.py whole --outtype f16 --outfile whole.gguf
    python -m benchmarks.speed.llama_cpp_peer runs/gsm8k-smollm2 --gguf whole.gguf \\
        --data gsm8k/test.jsonl --threads 2

Both generate as many tokens after each prompt, ends ignored, in one process and in turn. Of each
text the time of the first token is kept, which is that of the prompt, and the time between the
others. The two need not say the same: f16 and bf16 round differently from float32, and a text goes
its own way after the first difference. Writes benchmarks/results/llama_cpp.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import positive, tell, write
from sortednet_cli import load_run
from sortednet_cli.engine.generation import Decoder, Plain
from sortednet_cli.engine.generation.prompts import Prompts

OURS = {
    "float32": (torch.float32, False),
    "float32, compiled": (torch.float32, True),
    "float16": (torch.float16, False),
    "float16, compiled": (torch.float16, True),
    "bfloat16": (torch.bfloat16, False),
    "bfloat16, compiled": (torch.bfloat16, True),
}
"""The precision of the weights, and whether passes of one token are compiled."""

Decode = Callable[[list[int]], Iterator[int]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--gguf", type=Path, required=True, help="the same weights for llama.cpp")
    parser.add_argument("--data", type=Path, required=True, help="JSONL with the questions")
    parser.add_argument("--prompts", type=positive, default=10)
    parser.add_argument("--tokens", type=positive, default=64, help="after each prompt")
    parser.add_argument("--threads", type=positive, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run = load_run(options.run)
    prompts, wanted = Prompts(run), options.tokens
    lines = options.data.read_text(encoding="utf-8").splitlines()[: options.prompts + 1]
    asked = [prompts.encode(json.loads(line)["question"], 1 << 20) for line in lines]
    room = max(map(len, asked)) + wanted
    ways: dict[str, Decode] = {
        f"sortednet, {name}": ours(
            run.network().standalone(run.space.largest).to(dtype), wanted, compiles
        )
        for name, (dtype, compiles) in OURS.items()
    }
    ways["llama.cpp"] = llama_cpp(options.gguf, options.threads, room)
    pilot, *asked = asked
    for decode in ways.values():
        timed(decode, pilot, wanted)
    texts: dict[str, list[tuple[list[int], list[float]]]] = {name: [] for name in ways}
    for number, prompt in enumerate(asked):
        shift = number % len(ways)
        for name in [*ways][shift:] + [*ways][:shift]:
            texts[name].append(timed(ways[name], prompt, wanted))
    result = {
        "run": run.name,
        "prompts": len(asked),
        "prompt_tokens": sum(map(len, asked)),
        "tokens": wanted,
        "threads": options.threads,
        "gguf_bytes": options.gguf.stat().st_size,
        "ways": [summary(name, texts) for name in ways],
    }
    write("llama_cpp", result)
    print(table(result))


def ours(module: Any, wanted: int, compiles: bool) -> Decode:
    decoder = Decoder(module.eval(), compiles=compiles)
    return lambda prompt: decoder.stream(prompt, Plain(), wanted)


def llama_cpp(path: Path, threads: int, room: int) -> Decode:
    from llama_cpp import Llama

    model = Llama(str(path), n_ctx=room, n_threads=threads, n_threads_batch=threads, verbose=False)

    def decode(prompt: list[int]) -> Iterator[int]:
        model.reset()
        return iter(model.generate(prompt, temp=0.0))

    return decode


def timed(decode: Decode, prompt: list[int], wanted: int) -> tuple[list[int], list[float]]:
    """Return the tokens, and the seconds that each took."""
    tokens, seconds = [], []
    start = time.perf_counter()
    for token in islice(decode(prompt), wanted):
        now = time.perf_counter()
        tokens.append(token)
        seconds.append(now - start)
        start = now
    return tokens, seconds


def summary(name: str, texts: dict[str, list[tuple[list[int], list[float]]]]) -> dict[str, Any]:
    """Medians over the texts, and how many tokens are those of llama.cpp before they part."""
    agreeing = [
        sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(own, other, strict=True)))
        for (own, _), (other, _) in zip(texts[name], texts["llama.cpp"], strict=True)
    ]
    return {
        "name": name,
        "prompt_ms": 1e3 * statistics.median(seconds[0] for _, seconds in texts[name]),
        "token_ms": 1e3 * statistics.median(s for _, seconds in texts[name] for s in seconds[1:]),
        "agreeing": statistics.median(agreeing),
    }


def table(result: dict[str, Any]) -> str:
    """Markdown: times, and those of llama.cpp over ours."""
    peer = result["ways"][-1]
    lines = [
        "| greedy decoding | ms of a prompt | ms of a token | of llama.cpp's speed"
        " | tokens alike at first |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for way in result["ways"]:
        speed = peer["token_ms"] / way["token_ms"]
        lines.append(
            f"| {way['name']} | {way['prompt_ms']:.0f} | {way['token_ms']:.1f} | {speed:.2f}"
            f" | {way['agreeing']:.0f} of {result['tokens']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    tell(main)
