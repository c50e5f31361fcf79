"""What a CPU loses to memory that is thrown away and fetched again, by who keeps it and how.

    python -m benchmarks.speed.allocator

Each case runs in a process of its own, the variants in turn in every round: wall time, or images a
second, the system's share of the CPU time, and the most memory that was resident. Commands are the
product's own, on random images and on the texts that come with Python. `--before` names the
`sortednet` of another installation, as one more variant. Writes benchmarks/results/allocator.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sortednet_cli import allocator
from sortednet_cli.errors import WorkError

SORTEDNET = Path(sys.executable).with_name("sortednet")
SYSTEM = {allocator.VARIABLE: "system"}
KEPT_BY_TUNABLES = {
    "glibc.malloc.mmap_max": 0,
    "glibc.malloc.trim_threshold": (1 << 64) - 1,
    "glibc.malloc.top_pad": 64 << 20,
}
HUGE = {"THP_MEM_ALLOC_ENABLE": "1"}
"""Torch asks for huge pages for what it allocates, where the kernel gives them on `madvise`."""


def tunables(values: Mapping[str, int]) -> dict[str, str]:
    return {"GLIBC_TUNABLES": ":".join(f"{name}={value}" for name, value in values.items())}


VARIANTS: dict[str, dict[str, str]] = {
    "default": SYSTEM,
    "kept": {},
    "thresholds": {
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
        "MALLOC_TOP_PAD_": str(64 << 20),
    },
    "torch's huge pages": {**SYSTEM, **HUGE},
    "glibc's huge pages": tunables({"glibc.malloc.hugetlb": 1}),
    "kept, torch's huge pages": HUGE,
    "kept, glibc's huge pages": tunables({**KEPT_BY_TUNABLES, "glibc.malloc.hugetlb": 1}),
}
"""Environments of a process: `kept` is what the command line does."""

FORWARD = {"ResNet-20": 32, "MobileNetV2": 32, "ResNet-50": 64}
"""Networks of plain passes, and the width of their images."""

FEW = ("--set=space.width=[0.25, 1.0]", "--set=train.log_every=1000")


@dataclass(frozen=True)
class Case:
    """A command to be measured.

    Attributes:
        command: makes its words, given the folder with `images` and `run`, and a free name.
        gives_rate: whether it prints images a second; its wall time counts otherwise.
    """

    name: str
    command: Callable[[Path, Path, str], Sequence[str | Path]]
    gives_rate: bool = False


def forward(network: str, count: int) -> Case:
    words = [
        sys.executable,
        "-m",
        "benchmarks.speed.allocator",
        "--forward",
        network,
        "--images",
        str(count),
    ]
    return Case(f"{network}, passes of {count}", lambda *_: words, gives_rate=True)


def train(name: str, preset: str, *settings: str, images: bool = True) -> Case:
    def words(tool: Path, folder: Path, free: str) -> list[str | Path]:
        own = on_images(folder) if images else ["--set=data.source=pydoc"]
        out = folder / free
        return [tool, "train", f"--preset={preset}", *settings, *own, "--quiet", "--out", out]

    return Case(name, words)


def on_images(folder: Path) -> list[str]:
    return ["--set=data.source=image-folder", f"--data={folder / 'images'}"]


CASES = [
    *(forward(network, count) for network in FORWARD for count in (512, 128)),
    Case(
        "eval --all, 49 of cifar10-resnet",
        lambda tool, folder, _: [tool, "eval", folder / "run", "--all", "--quiet"],
    ),
    train("train cifar10-resnet, 60 updates", "cifar10-resnet", "--set=train.updates=60",
          "--set=space.depth=[3, 9]", *FEW),
    train("train shakespeare-llama, 40 updates", "shakespeare-llama", "--set=train.updates=40",
          images=False),
    train("train cifar10-mobilenetv2, 25 updates", "cifar10-mobilenetv2", "--set=train.updates=25",
          "--set=space.depth=[8, 17]", *FEW),
]  # fmt: skip


def main() -> None:
    options = arguments()
    if options.forward:
        print(images_per_second(options.forward, options.images, options.seconds))
        return
    from benchmarks.harness import write

    cases = [case for case in CASES if any(word in case.name for word in options.only)]
    variants = {name: VARIANTS[name] for name in options.variants}
    result: dict[str, Any] = {"threads": options.threads, "cases": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder, options.test_images)
        for case in cases:
            found = measure(case, variants, folder, options)
            result["cases"].append({"name": case.name, "variants": found})
            write("allocator", result, options.out)  # what is done is kept: the rest takes hours
    print(table(result))


def arguments() -> argparse.Namespace:
    from benchmarks.harness import positive

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--repeats", type=positive, default=5, help="rounds over all variants")
    parser.add_argument("--only", nargs="+", default=[""], help="cases whose names hold a word")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--before", type=Path, help="another installation's sortednet")
    parser.add_argument("--test-images", type=positive, default=10_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each loop of passes")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/allocator.json")
    parser.add_argument("--forward", choices=FORWARD, help=argparse.SUPPRESS)
    parser.add_argument("--images", type=positive, default=512, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(
    case: Case, variants: Mapping[str, dict[str, str]], folder: Path, options: argparse.Namespace
) -> dict[str, dict[str, list[float]]]:
    """All samples of every variant of a case, in turn."""
    tools = {name: (SORTEDNET, variables) for name, variables in variants.items()}
    if options.before and not case.gives_rate:
        tools["before"] = (options.before, {})
    found: dict[str, dict[str, list[float]]] = {name: {} for name in tools}
    for repeat in range(options.repeats):
        for number, (name, (tool, variables)) in enumerate(tools.items()):
            words = case.command(tool, folder, f"out-{case.name}-{repeat}-{number}")
            environment = clean(folder, options.threads) | variables
            for key, value in run(words, environment, case.gives_rate).items():
                found[name].setdefault(key, []).append(value)
    return found


def clean(folder: Path, threads: int) -> dict[str, str]:
    """This environment without anybody's choice of an allocator."""
    chosen = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "THP_", allocator.VARIABLE)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(chosen)}
    places = {"SORTEDNET_CACHE": str(folder / "cache")}
    return {**kept, **places, "OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}


def run(
    words: Sequence[str | Path], environment: Mapping[str, str], gives_rate: bool = False
) -> dict[str, float]:
    """Run a command: seconds or images a second, share of system time, peak in MiB.

    Raises:
        WorkError: it failed; it has said why.
    """
    if sys.platform == "win32":
        raise WorkError("the memory of a process that has ended is told by POSIX systems alone")
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=dict(environment))
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise WorkError(f"{' '.join(map(str, words))} ended with {process.returncode}")
    return {
        **({"rate": float(said)} if gives_rate else {"seconds": seconds}),
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "system_share": used.ru_stime / (used.ru_utime + used.ru_stime),
        "peak_mib": used.ru_maxrss / 1024,
    }


def images_per_second(network: str, count: int, seconds: float) -> float:
    """The loop that anyone would write, with the allocator as the environment has it."""
    allocator.keep_freed_memory()
    import torch
    import torchvision

    from benchmarks.harness import network_of

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if network == "ResNet-50":
        module: torch.nn.Module = torchvision.models.resnet50(num_classes=10)
    else:
        preset = {"ResNet-20": "cifar10-resnet", "MobileNetV2": "cifar10-mobilenetv2"}[network]
        module = network_of(preset, ["train.channels_last=false"])[2].module
    module.eval()
    images = torch.randn(count, 3, FORWARD[network], FORWARD[network])
    with torch.no_grad():
        module(images)
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            module(images)
            done += count
    return done / (time.perf_counter() - start)


def prepare(folder: Path, test_images: int) -> None:
    """Random images in the form of CIFAR-10, and a finished run over them."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for part, count in (("train", 1000), ("test", test_images)):
        for number in range(count):
            place = folder / "images" / part / str(number % 10)
            place.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(256, size=(32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png", compress_level=0)
    settings = ["--set=train.updates=2", "--set=data.validation=0.01"]
    words = ["train", "--preset=cifar10-resnet", *settings, *on_images(folder), "--quiet"]
    run([SORTEDNET, *words, "--out", folder / "run"], clean(folder, os.cpu_count() or 1))


def table(result: dict[str, Any]) -> str:
    """Medians: time or rate against the default's, the system's share, and peak memory."""
    names = list(dict.fromkeys(name for case in result["cases"] for name in case["variants"]))
    rows = [f"| work | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    for case in result["cases"]:
        cells = (cell(case["variants"].get(name)) for name in names)
        rows.append(f"| {case['name']} | {' | '.join(cells)} |")
    return "\n".join(rows)


def cell(found: Mapping[str, Iterable[float]] | None) -> str:
    if found is None:
        return "-"
    middle = {key: statistics.median(values) for key, values in found.items()}
    first = f"{middle['rate']:,.0f}/s" if "rate" in middle else f"{middle['seconds']:.1f} s"
    return f"{first}, {middle['system_share']:.0%}, {middle['peak_mib']:,.0f} MiB"


if __name__ == "__main__":
    from benchmarks.harness import tell

    tell(main)
