"""What a CPU loses to memory that is thrown away and fetched again, by who keeps it and how.

    python -m benchmarks.speed.allocator

Each case runs in a process of its own, the variants in turn in every round: wall time, or images a
second, the system's share of the CPU time, and the most memory that was resident. Commands are the
product's own, on random images and on the texts that come with Python. `--before` names the
`sortednet` of another installation, as one more variant. Writes benchmarks/results/allocator.json;
`--only` measures some cases again and keeps the others of that file.
"""

from __future__ import annotations

import argparse
import json
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
    train("train cifar10-resnet, 60 updates and 49 scores", "cifar10-resnet",
          "--set=train.updates=60", "--set=train.log_every=1000"),
    train("train cifar10-resnet, 60 updates and 4 scores", "cifar10-resnet",
          "--set=train.updates=60",
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
    result: dict[str, Any] = {"threads": options.threads, "cases": kept_cases(cases, options.out)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder, options.test_images, options.before or SORTEDNET)
        for case in cases:
            found = measure(case, variants, folder, options)
            result["cases"].append({"name": case.name, "variants": found})
            write("allocator", result, options.out)  # what is done is kept: the rest takes hours
    print(table(result))


def kept_cases(measured: Sequence[Case], path: Path | None) -> list[dict[str, Any]]:
    """What an earlier result holds of cases that are not measured again."""
    from benchmarks.harness import RESULTS

    path = path or RESULTS / "allocator.json"
    if not path.exists():
        return []
    again = {case.name for case in measured}
    earlier = json.loads(path.read_text(encoding="utf-8"))["cases"]
    return [case for case in earlier if case["name"] not in again]


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


def prepare(folder: Path, test_images: int, tool: Path) -> None:
    """Random images in the form of CIFAR-10, and a finished run over them.

    The older installation trains it, for newer ones read what older ones wrote.
    """
    random_images(folder / "images", train=1000, test=test_images)
    settings = ["--set=train.updates=2", "--set=data.validation=0.01"]
    words = ["train", "--preset=cifar10-resnet", *settings, *on_images(folder), "--quiet"]
    run([tool, *words, "--out", folder / "run"], clean(folder, os.cpu_count() or 1))


def random_images(folder: Path, **counts: int) -> None:
    """Write so many images of 32x32 random pixels in ten classes for each part."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for part, count in counts.items():
        for number in range(count):
            place = folder / part / str(number % 10)
            place.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(256, size=(32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png", compress_level=0)


def table(result: dict[str, Any]) -> str:
    """Medians of the default and of what the command line does: time or rate, and peak memory."""
    rows = [
        "| work | default | system time | kept | system time | speed-up | peak memory |",
        "| --- |" + " --- |" * 6,
    ]
    for case in result["cases"]:
        default, kept = (middle(case["variants"][name]) for name in ("default", "kept"))
        rows.append(
            f"| {case['name']} | {shown(default)} | {default['system_share']:.0%} | {shown(kept)}"
            f" | {kept['system_share']:.0%} | {faster(kept, default)} |"
            f" {default['peak_mib']:,.0f} -> {kept['peak_mib']:,.0f} MiB |"
        )
    return "\n".join(rows)


def ways(result: dict[str, Any]) -> str:
    """Every way of keeping memory, where all were measured: medians and peak memory."""
    names = [name for name in VARIANTS if name != "default"]
    cases = [case for case in result["cases"] if set(VARIANTS) <= case["variants"].keys()]
    rows = [
        f"| way | {' | '.join(case['name'] for case in cases)} |",
        "| --- |" + " --- |" * len(cases),
    ]
    for name in ["default", *names]:
        found = [middle(case["variants"][name]) for case in cases]
        cells = (f"{shown(value)}, {value['peak_mib']:,.0f} MiB" for value in found)
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def against_before(result: dict[str, Any]) -> str:
    """Whole commands beside those of the older installation."""
    rows = ["| command | before | now | ratio | peak memory |", "| --- | --- | --- | --- | --- |"]
    for case in result["cases"]:
        if "before" not in case["variants"]:
            continue
        before, now = (middle(case["variants"][name]) for name in ("before", "kept"))
        rows.append(
            f"| {case['name']} | {shown(before)} | {shown(now)} |"
            f" {now['seconds'] / before['seconds']:.2f} |"
            f" {before['peak_mib']:,.0f} -> {now['peak_mib']:,.0f} MiB |"
        )
    return "\n".join(rows)


def middle(found: Mapping[str, Iterable[float]]) -> dict[str, float]:
    return {key: statistics.median(values) for key, values in found.items()}


def shown(value: Mapping[str, float]) -> str:
    if "rate" in value:
        return f"{value['rate']:,.0f} images/s"
    return f"{value['seconds']:.1f} s"


def faster(kept: Mapping[str, float], default: Mapping[str, float]) -> str:
    if "rate" in kept:
        return f"{kept['rate'] / default['rate']:.2f}x"
    return f"{default['seconds'] / kept['seconds']:.2f}x"


if __name__ == "__main__":
    from benchmarks.harness import tell

    tell(main)
