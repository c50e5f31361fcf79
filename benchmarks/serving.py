"""A server under many requests at once, and its memory beside artifacts that are served alone.

    python -m benchmarks.serving runs/pydoc-llama
    python -m benchmarks.serving --preset pydoc-llama --set data.max_length=256

With a preset the run is trained for two updates first: speed and memory do not depend on what
weights say. OpenAI's client asks for texts of three sizes: one request after another, then all at
once. The server's processor time is counted beside the clock's, as other processes change it less.

For the memory, one server that has answered for every one of `--memory-sizes` sizes is compared
with as many servers at once, each of an artifact. PSS counts a page that processes share once.
Writes benchmarks/results/serving.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI, OpenAI

from benchmarks.harness import RESULTS
from sortednet_cli import load_run
from sortednet_cli.machine.versions import versions

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
        many = artifacts(run, spread, Path(folder))
        empty = with_nothing()
    result = {
        "run": options.preset or Path(run).name,
        "settings": options.set,
        "requests": options.requests,
        "max_tokens": options.max_tokens,
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "machine": platform.machine(),
        "versions": versions(),
        "cases": cases,
        "memory": {
            "sizes": spread,
            "one_server": one,
            "artifacts": many,
            "imports_alone": empty,
        },
    }
    print(table(result), memory_table(result), sep="\n\n")
    out = options.out or RESULTS / "serving.json"
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


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


def timed(server: Server, models: Sequence[str], tokens: int, at_once: int) -> dict[str, float]:
    """Ask for a text of each model; return tokens per second, and the latencies' median."""

    async def ask() -> tuple[int, list[float]]:
        door = asyncio.Semaphore(at_once)
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=3600) as client:

            async def one(number: int, model: str) -> tuple[int, float]:
                async with door:
                    start = time.perf_counter()
                    answer = await client.completions.create(
                        model=model,
                        prompt=f"{PROMPT} {number}",
                        max_tokens=tokens,
                        temperature=0,
                    )
                    assert answer.usage is not None
                    return answer.usage.completion_tokens, time.perf_counter() - start

            answers = await asyncio.gather(*(one(*pair) for pair in enumerate(models)))
        return sum(count for count, _ in answers), sorted(seconds for _, seconds in answers)

    start, cpu = time.perf_counter(), server.cpu_seconds
    count, seconds = asyncio.run(ask())
    return {
        "tokens": count,
        "tokens_per_second": count / (time.perf_counter() - start),
        "tokens_per_cpu_second": count / (server.cpu_seconds - cpu),
        "median_seconds": seconds[len(seconds) // 2],
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
    parser.add_argument("--memory-sizes", type=int, default=6)
    parser.add_argument("--out", type=Path, help="the result's file")
    options = parser.parse_args()
    if (options.run is None) == (options.preset is None):
        parser.error("give a run or --preset")
    return options


if __name__ == "__main__":
    main()
