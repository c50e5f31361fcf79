"""Ways of decoding that are timed beside each other, on a run and on its stock model."""

from __future__ import annotations

import itertools
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import clock
from benchmarks.speed.draft_bounds import Said, bounds, look_up_bounds
from sortednet_cli import LoadedRun
from sortednet_cli.engine.generation import DecodingStats, EarlyExit, Plain, Stack, Strategy
from sortednet_cli.engine.generation.generator import Generator
from sortednet_cli.engine.generation.prompts import Prompts
from sortednet_cli.engine.generation.timings import LayerTimings
from sortednet_cli.families.transformers.stock_configs import end_tokens, with_end
from sortednet_cli.storage.exit_thresholds import read_thresholds
from sortednet_cli.storage.frequent_tokens import read_frequent

LOOKED_UP = 10


@dataclass
class Way:
    """One way of decoding and what it made."""

    name: str
    run: Callable[[list[int]], list[int]]
    stats: DecodingStats | None = None
    seconds: float = 0.0
    outputs: list[list[int]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return sum(map(len, self.outputs)) / self.seconds

    def take(self, prompt: list[int]) -> None:
        start = clock()
        output = self.run(prompt)
        self.seconds += clock() - start
        self.outputs.append(output)


def take_turns(ways: Sequence[Way], pilot: list[int], prompts: Sequence[list[int]]) -> None:
    """Run all ways on each prompt, in an order that turns, after one prompt that is not timed."""
    for way in ways:
        way.run(pilot)
        way.stats = None if way.stats is None else DecodingStats()
    for number, prompt in enumerate(prompts):
        shift = number % len(ways)
        for way in [*ways[shift:], *ways[:shift]]:
            way.take(prompt)
        print(f"{number + 1} of {len(prompts)} prompts", file=sys.stderr)


class Bench:
    """A run's decoder and the stock model of the same weights."""

    def __init__(self, run: LoadedRun, max_new_tokens: int) -> None:
        self._wanted = max_new_tokens
        largest = run.space.largest
        self._stock: Any = run.network().standalone(largest)
        self._generator = Generator(run, largest, torch.device("cpu"))
        self.decoder = self._generator.decoder
        self._ends = end_tokens(with_end(run.generation, Prompts(run).end))
        self._frequent = read_frequent(run.tokenizer)
        self._calibration = read_thresholds(run.path, largest)

    def ways(self, pilots: Sequence[list[int]]) -> list[Way]:
        """All ways, those with a free choice as they did best on `pilots`."""
        shallow = [depth for depth in self.decoder.exits if depth <= self.decoder.depth // 2]
        tried = {
            (depth, length): self.speculative("", depth, length)
            for depth in shallow
            for length in (1, 2, 4)
        }
        stock_tried = {depth: self.stock("", depth) for depth in shallow}
        for prompt in pilots:
            for way in [*tried.values(), *stock_tried.values()]:
                way.take(prompt)
        depth, length = max(tried, key=lambda key: tried[key].rate)
        stock_depth = max(stock_tried, key=lambda key: stock_tried[key].rate)
        ways = [
            self.plain(),
            self.speculative(f"speculative, {length} drafts at depth {depth}", depth, length),
            self.speculative(f"speculative, adaptive at depth {depth}", depth, None),
            self.speculative("speculative, look-up", 0, None),
            self.speculative("speculative, auto", None, None),
            self.stock("transformers greedy", None),
            self.stock(f"transformers assistant_early_exit={stock_depth}", stock_depth),
            self.stock("transformers prompt look-up", prompt_lookup_num_tokens=LOOKED_UP),
        ]
        if self._calibration:
            exits = {depth: e.threshold for depth, e in self._calibration.exits.items()}
            ways.insert(5, self._own(f"early exit, {self._calibration.target}", EarlyExit(exits)))
        return ways

    def plain(self) -> Way:
        return self._own("greedy", Plain())

    def speculative(self, name: str, depth: int | None, length: int | None) -> Way:
        return self._own(name, self.decoder.speculative(depth, length))

    def encode(self, path: Path, count: int) -> list[list[int]]:
        """Prompts of the questions in a JSONL file, in the form that the run was trained with."""
        lines = path.read_text().splitlines()[:count]
        return self._generator.encode([json.loads(line)["question"] for line in lines])

    def stock(self, name: str, depth: int | None = None, **extra: int) -> Way:
        """Transformers' greedy decoding, or one of its speculative ways."""
        if depth is not None:
            extra["assistant_early_exit"] = depth
        if self._ends:
            extra |= {"eos_token_id": self._ends, "pad_token_id": self._ends[0]}  # type: ignore[dict-item]

        def run(prompt: list[int]) -> list[int]:
            ids = torch.tensor([prompt])
            found = self._stock.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self._wanted,
                do_sample=False,
                **extra,
            )
            return without_end(found[0, len(prompt) :].tolist(), self._ends)

        return Way(name, run)

    def said(
        self, prompts: Sequence[list[int]], outputs: Sequence[list[int]]
    ) -> dict[int, list[list[Said]]]:
        """By depth and text: what that depth would draft at each token of plain decoding."""
        found: dict[int, list[list[Said]]] = {depth: [] for depth in self.decoder.exits}
        with torch.inference_mode():
            for prompt, output in zip(prompts, outputs, strict=True):
                if not output:
                    continue
                stack, wanted = Stack(self._stock, len(prompt) + len(output)), torch.tensor(output)
                stack.push([*prompt, *output])
                for depth in self.decoder.exits:
                    stack.advance(depth)
                    logits = stack.logits(len(output) + 1)[:-1]
                    if self._frequent:
                        drafted = torch.full_like(logits, -torch.inf)
                        drafted[:, self._frequent] = logits[:, self._frequent]
                        logits = drafted
                    shares, tokens = logits.softmax(-1).topk(2)
                    right = (tokens == wanted[:, None]).tolist()
                    rows = zip(right, shares[:, 0].tolist(), strict=True)
                    found[depth].append(
                        [Said(first, second, share) for (first, second), share in rows]
                    )
        return found

    def bounds(self, prompts: Sequence[list[int]], outputs: Sequence[list[int]]) -> dict[str, Any]:
        """What drafts could gain on some prompts, by measured times."""
        depth, stack = self.decoder.depth, Stack(self._stock, 128, frequent=self._frequent)
        with torch.inference_mode():
            pace = LayerTimings.measure(stack, clock)
        said = self.said(prompts, outputs)
        rows = bounds(pace, depth, said)
        for row in rows:
            flags = [token.first for text in said[row["depth"]] for token in text]
            row["acceptance"] = statistics.fmean(flags)
        return {
            "tokens": sum(map(len, outputs)),
            "microseconds": {
                "layer": [round(s * 1e6, 1) for s in pace.layer[1:]],
                "head": [round(s * 1e6, 1) for s in pace.head[1:]],
                "draft_head": round(pace.draft_head * 1e6, 1),
            },
            "depths": rows,
            "look_up": look_up_bounds(pace, depth, zip(prompts, outputs, strict=True)),
        }

    def _own(self, name: str, strategy: Strategy) -> Way:
        way = Way(name, lambda prompt: [], DecodingStats())

        def run(prompt: list[int]) -> list[int]:
            return list(self.decoder.stream(prompt, strategy, self._wanted, stats=way.stats))

        way.run = run
        return way


def without_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    return list(itertools.takewhile(lambda token: token not in ends, tokens))
