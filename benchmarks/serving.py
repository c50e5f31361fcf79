"""A server under many requests at once, and its memory beside artifacts that are served alone.

    python -m benchmarks.serving runs/gsm8k-smollm2 --max-tokens 32 --checked 200
    python -m benchmarks.serving --preset pydoc-llama --set data.max_length=256

With a preset the run is trained for two updates first: speed and memory do not depend on what
weights say. OpenAI's client asks for texts of three sizes: one request after another, then all at
once. The server's processor time is counted beside the clock's, as other processes change it less.
Of the texts that the three sizes made at once, `--checked` are compared with those that the decoder
of `sortednet generate` makes alone.

For the memory, one server that has answered for every one of `--memory-sizes` sizes is compared
with as many servers at once, each of an artifact. PSS counts a page that processes share once.
Writes benchmarks/results/serving.json.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from openai import AsyncOpenAI, OpenAI

from benchmarks.harness import tell, write
from sortednet_cli import load_run
from sortednet_cli.engine.generation import Plain
from sortednet_cli.engine.generation.generator import Generator

PROMPT = "The with statement is used to wrap the execution of a block"
TICKS = 100
"""Ticks of a second in `/proc`: USER_HZ of Linux."""


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        number: its process.
        name: the name of its largest model.
    """

    number: int
    url: str
    name: str

    @property
    def cpu_seconds(self) -> float:
        """Processor time so far."""
        fields = Path(f"/proc/{self.number}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def memory(self) -> dict[str, float]:
        """RSS and PSS, in MiB."""
        lines = Path(f"/proc/{self.number}/smaps_rollup").read_text().splitlines()[1:]
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        return {"rss_mib": kib["Rss"] / 1024, "pss_mib": kib["Pss"] / 1024}

    def ask(self, model: str, tokens: int) -> None:
        """Wait for one text."""
        with OpenAI(base_url=f"{self.url}/v1", api_key="none", timeout=3600) as client:
            client.completions.create(model=model, prompt=PROMPT, max_tokens=tokens, temperature=0)


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or train(options.preset, options.set, Path(folder) / options.preset)
        space = load_run(run).space
        spread = evenly([submodel.name for submodel in space.submodels], options.memory_sizes)
        sizes = evenly(spread, 3)
        with serving(run) as server:
            cases = [
                measure(server, each, options) for each in (*([size] for size in sizes), sizes)
            ]
            for size in spread:
                server.ask(f"{server.name}:{size}", 8)
            one = server.memory
        mixed = [sizes[number % len(sizes)] for number in range(options.checked)]
        texts = cases[-1]["batched"]["texts"]
        same = same_as_generated(run, mixed, texts, options.max_tokens)
        for case in cases:
            for way in ("single", "batched"):
                del case[way]["texts"]
        many = artifacts(run, spread, Path(folder))
        empty = with_nothing()
    result = {
        "run": options.preset or Path(run).name,
        "settings": options.set,
        "requests": options.requests,
        "max_tokens": options.max_tokens,
        "cases": cases,
        "checked": {"texts": options.checked, "same_as_generate": same},
        "memory": {
            "sizes": spread,
            "one_server": one,
            "artifacts": many,
            "imports_alone": empty,
        },
    }
    print(table(result), memory_table(result), sep="\n\n")
    write("serving", result, options.out)


def measure(server: Server, sizes: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Measure one size, or several in turn: a few requests one by one, then all at once."""
    models = [f"{server.name}:{size}" for size in sizes]
    for model in models:
        server.ask(model, 2)
    few = [models[number % len(models)] for number in range(options.singles)]
    many = [models[number % len(models)] for number in range(options.requests)]
    return {
        "size": ", ".join(sizes),
        "single": timed(server, few, options.max_tokens, at_once=1),
        "batched": timed(server, many, options.max_tokens, at_once=len(many)),
    }


def same_as_generated(run: Path, asked: Sequence[str], texts: Sequence[str], tokens: int) -> int:
    """Count the texts that are those of `generate`, of requests for these sizes."""
    loaded = load_run(run)
    same = 0
    for size in dict.fromkeys(asked):
        numbers = [number for number, own in enumerate(asked) if own == size]
        prompts = [prompt_of(number) for number in numbers]
        generator = Generator(loaded, loaded.space.named(size), torch.device("cpu"))
        answers = generator.answers(prompts, generator.encode(prompts), Plain(), tokens)
        for number, (_, pieces) in zip(numbers, answers, strict=True):
            same += "".join(pieces) == texts[number]
    return same


def prompt_of(number: int) -> str:
    return f"{PROMPT} {number}"


def timed(server: Server, models: Sequence[str], tokens: int, at_once: int) -> dict[str, Any]:
    """Ask for a text of each model; return tokens per second, and the latencies' median."""

    async def ask() -> list[tuple[int, float, str]]:
        door = asyncio.Semaphore(at_once)
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=3600) as client:

            async def one(number: int, model: str) -> tuple[int, float, str]:
                async with door:
                    start = time.perf_counter()
                    answer = await client.completions.create(
                        model=model,
                        prompt=prompt_of(number),
                        max_tokens=tokens,
                        temperature=0,
                    )
                    assert answer.usage is not None
                    seconds = time.perf_counter() - start
                    return answer.usage.completion_tokens, seconds, answer.choices[0].text

            return await asyncio.gather(*(one(*pair) for pair in enumerate(models)))

    start, cpu = time.perf_counter(), server.cpu_seconds
    counts, latencies, texts = zip(*asyncio.run(ask()), strict=True)
    count, seconds = sum(counts), sorted(latencies)
    return {
        "tokens": count,
        "tokens_per_second": count / (time.perf_counter() - start),
        "tokens_per_cpu_second": count / (server.cpu_seconds - cpu),
        "median_seconds": seconds[len(seconds) // 2],
        "texts": texts,
    }


def artifacts(run: Path, sizes: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """Serve an artifact of each size at once, and return the memory of each server."""
    space = load_run(run).space
    with ExitStack() as stack:
        servers = []
        for size in sizes:
            out = folder / f"artifact-{size}"
            axes = [f"--axis={axis}={value:g}" for axis, value in space.named(size).values]
            sortednet("extract", str(run), *axes, "--out", str(out))
            servers.append(stack.enter_context(serving(out)))
            servers[-1].ask(servers[-1].name, 8)
        pairs = zip(sizes, servers, strict=True)
        return [{"size": size, **server.memory} for size, server in pairs]


def with_nothing() -> dict[str, float]:
    """Memory of a process that has imported what a server imports, and does nothing."""
    code = "import sortednet_cli.engine.serving.serve, sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return Server(process.pid, "", "").memory


def train(preset: str, settings: Sequence[str], out: Path) -> Path:
    """Train a preset for two updates."""
    chosen = [f"--set={setting}" for setting in ("train.updates=2", *settings)]
    sortednet("train", "--preset", preset, *chosen, "--out", str(out))
    return out


@contextmanager
def serving(source: Path) -> Iterator[Server]:
    """Start a server of a run or an artifact."""
    words = [sys.executable, "-m", "sortednet_cli", "serve", str(source), "--port=0", "--quiet"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            with OpenAI(base_url=f"{url}/v1", api_key="none") as client:
                yield Server(process.pid, url, client.models.list().data[0].id)
        finally:
            process.terminate()


def sortednet(*words: str) -> None:
    """Run a command; its messages are shown."""
    command = [sys.executable, "-m", "sortednet_cli", *words, "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def evenly(names: Sequence[str], count: int) -> list[str]:
    """Pick `count` names evenly, the first and the last among them."""
    count = min(count, len(names))
    steps = max(1, count - 1)
    return [names[number * (len(names) - 1) // steps] for number in range(count)]


def table(result: dict[str, Any]) -> str:
    """Throughput by size, as Markdown."""
    lines = [
        "| size | one by one: tokens/s | all at once: tokens/s | times | of processor time | median"
        " latency |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for case in result["cases"]:
        single, batched = case["single"], case["batched"]
        rates = [way["tokens_per_second"] for way in (single, batched)]
        cpu = [way["tokens_per_cpu_second"] for way in (single, batched)]
        lines.append(
            f"| {case['size']} | {rates[0]:.0f} | {rates[1]:.0f} | {rates[1] / rates[0]:.1f} |"
            f" {cpu[1] / cpu[0]:.1f} | {batched['median_seconds']:.2f} s |"
        )
    return "\n".join(lines)


def memory_table(result: dict[str, Any]) -> str:
    """Memory of one server beside one for each artifact, as Markdown."""
    memory = result["memory"]
    one, each = memory["one_server"], memory["artifacts"]
    count, empty = len(each), memory["imports_alone"]["rss_mib"]
    alone = [sum(artifact[kind] for artifact in each) for kind in ("rss_mib", "pss_mib")]
    rows = [
        (f"one server of {len(memory['sizes'])} sizes", one["rss_mib"], one["pss_mib"]),
        (f"{count} servers, each of an artifact", *alone),
        ("a process that only imports the server", empty, memory["imports_alone"]["pss_mib"]),
    ]
    lines = ["| processes | RSS, MiB | PSS, MiB |", "| --- | --- | --- |"]
    lines += [f"| {name} | {rss:,.0f} | {pss:,.0f} |" for name, rss, pss in rows]
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", help="a finished run of a causal model")
    parser.add_argument("--preset", help="train this preset for two updates instead")
    parser.add_argument("--set", action="append", default=[], help="override a key of the preset")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--singles", type=int, default=6, help="requests one by one")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--checked", type=int, default=12, help="texts compared with generate's")
    parser.add_argument("--memory-sizes", type=int, default=6)
    parser.add_argument("--out", type=Path, help="the result's file")
    options = parser.parse_args()
    if (options.run is None) == (options.preset is None):
        parser.error("give a run or --preset")
    return options


if __name__ == "__main__":
    tell(main)
