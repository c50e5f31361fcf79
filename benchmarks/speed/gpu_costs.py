"""What things cost on a GPU: the sections of `gpu_check.py` that measure speed."""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.profiler import ProfilerActivity, profile

from benchmarks.harness import PLAIN, network_of, random_part, settle
from benchmarks.speed import compile_cost, engine_cost
from benchmarks.speed.engine_cost import Batches
from sortednet_cli.engine.generation import Decoder, Plain
from sortednet_cli.engine.generation.stack import Stack
from sortednet_cli.engine.generation.timings import LayerTimings
from sortednet_cli.engine.sources.root import task_of
from sortednet_cli.engine.training.loop import Position, Trainer, Update
from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.errors import WorkError
from sortednet_cli.rules import make_rule

NUM_IMAGES = 5000
"""Images of a training without --data."""

WARM_UPDATES, WARM_SECONDS = 600, 25.0
"""Most updates, and most seconds of them, before those that are timed with all 160 sub-models."""

Found = Iterator[tuple[str, dict[str, Any]]]
"""Names, and what was found under each; `holds` tells whether that is right, where it must be."""


@dataclass(frozen=True)
class Setup:
    """What every section is given: the device, images if there are any, and an empty folder."""

    device: torch.device
    data: Path | None
    work: Path


def steps(setup: Setup) -> Found:
    """An update's time over a plain loop's, and its kernels."""
    chosen = [case for case in engine_cost.CASES if "sequences" not in case.name]
    for case, precision in itertools.product(chosen, ("bf16", "fp32")):
        found = engine_cost.measure(case, 1, str(setup.device), precision)
        _, running = endless(
            setup,
            case.preset,
            *case.overrides,
            *PLAIN,
            "train.rule=single",
            f"train.precision={precision}",
            "train.cuda_graphs=false",
        )
        next(running)
        kernels, busy = _kernels(running)
        yield (
            f"{case.name}, {precision}",
            {
                **{f"{kind}_over_plain": found[kind] for kind in ("largest", "smallest", "sorted")},
                "units_per_second": found["largest_units_per_second"],
                "plain_units_per_second": found["largest_units_per_second"] * found["largest"],
                "kernels": kernels,
                "busy_ms": busy,
            },
        )


def whole(setup: Setup) -> Found:
    """Hours of 200 epochs of 160 MobileNetV2s on 50,000 images, from updates a second."""
    for precision, choice in itertools.product(("bf16", "fp32"), ("false", "true")):
        sets = (f"train.precision={precision}", f"train.cuda_graphs={choice}")
        trainer, running = endless(setup, "cifar10-mobilenetv2", *sets, "train.smallest_first=0")
        end, warmed = time.perf_counter() + WARM_SECONDS, 0
        # All but the rarest sub-models are drawn often enough to be recorded.
        while warmed < WARM_UPDATES and time.perf_counter() < end:
            next(running)
            warmed += 1
        milliseconds = _milliseconds(partial(next, running), 60)
        trainer.release()
        updates = 200 * 50_000 / (trainer.spec.batch_size * trainer.spec.accumulate)
        way = "recorded" if choice == "true" else "plain"
        yield (
            f"{precision}, {way}",
            {
                "updates_per_second": 1e3 / milliseconds,
                "hours": updates * milliseconds / 3.6e6,
                "warmed": warmed,
            },
        )


def graphs(setup: Setup) -> Found:
    """20 updates replayed as CUDA graphs against the same as they are, and an update's time."""
    corners = {
        "cifar10-resnet": ("space.width=[0.5,1.0]", "space.depth=[5,9]"),
        "cifar10-mobilenetv2": ("space.width=[0.5,1.0]", "model.config.dropout=0.2"),
        "pydoc-llama": ("space.depth=[2,4]", "model.config.attention_dropout=0.1"),
    }
    for (preset, settings), precision in itertools.product(corners.items(), ("fp32", "bf16")):
        sets = (*PLAIN, *settings, f"train.precision={precision}", "train.lr=1e-3")
        ways = {"plain": "false", "again": "false", "replayed": "true"}
        found = {
            way: _trained(setup, preset, *sets, "train.rule=sorted", f"train.cuda_graphs={choice}")
            for way, choice in ways.items()
        }
        apart = {
            f"{what}_apart_{way}": float((found[way][what] - found["plain"][what]).abs().max())
            for way in ("again", "replayed")
            for what in ("losses", "weights")
        }
        # What dropout draws shows in the losses, far above rounding.
        bound = 1e-2 if precision == "bf16" else 1e-3
        holds = max(apart["losses_apart_replayed"], apart["weights_apart_replayed"]) < bound
        times = {f"{way}_ms": found[way]["ms"] for way in ("plain", "replayed")}
        yield f"{preset}, {precision}", {**times, **apart, "holds": holds}


def decoding(setup: Setup) -> Found:
    """Tokens a second, recorded or not, and of transformers; a layer's time, as drafts count it."""
    _, _, network = network_of("gsm8k-llama", [], str(setup.device))
    largest = network.standalone(network.space.largest)
    for precision, choice in itertools.product((torch.float32, torch.bfloat16), (False, True)):
        module, rates, stock_rates = copy.deepcopy(largest), [], []
        for parameter in module.parameters():
            parameter.data = parameter.data.to(precision)
        decoder = Decoder(module, cuda_graphs=choice)
        for _ in range(3):
            start = time.perf_counter()
            count = len(list(decoder.stream(range(5, 37), Plain(), 96)))
            rates.append(count / (time.perf_counter() - start))
            start = time.perf_counter()
            _generate(module, 96)
            stock_rates.append(96 / (time.perf_counter() - start))
        with torch.inference_mode():
            stack = Stack(module, 128, choice)
            said = LayerTimings.measure(stack).layer[1]
            stack.push([1] * 64)
            stack.advance(stack.depth)

            def one(stack: Stack = stack) -> None:
                stack.truncate(64)
                stack.push([1])
                stack.advance(stack.depth)

            layers = {"layer_ms_said": 1e3 * said, "layer_ms": _milliseconds(one) / stack.depth}
        yield (
            f"{str(precision).removeprefix('torch.')}, {'recorded' if choice else 'as it is'}",
            {
                "tokens_per_second": rates,
                "of_transformers": stock_rates,
                **layers,
            },
        )


def compiling(setup: Setup) -> Found:
    """What `train.compile` costs and gains."""
    options = argparse.Namespace(precision="bf16", device=str(setup.device), repeats=16)
    found = compile_cost.measure(compile_cost.CASES[0], options)
    kept = ("compilations", "seconds_to_compile", "gain")
    yield str(found["name"]), {name: found[name] for name in kept}


def training(setup: Setup) -> Found:
    """160 networks by the command line, on --data or random images: two epochs, all scores."""
    data = setup.data or _random_images(setup.work / "images")
    run, epochs, start = setup.work / "nested", 2, time.perf_counter()
    settings = (f"--set=train.epochs={epochs}", "--set=train.lr=0.05", "--out", run)
    done = command("train", "--preset=cifar10-mobilenetv2", "--data", data, *settings)
    if done.returncode:
        raise WorkError(done.stderr.strip()[-300:])
    wall = time.perf_counter() - start
    seconds = json.loads((run / "run.json").read_text(encoding="utf-8"))["train_seconds"]
    table = json.loads((run / "frontier.json").read_text(encoding="utf-8"))
    scores = [row["metrics"]["test"]["accuracy"] for row in table["submodels"]]
    spread = [min(scores), statistics.median(scores), max(scores)]
    times = {"seconds_of_an_epoch": seconds / epochs, "seconds_beside": wall - seconds}
    images = str(setup.data.name) if setup.data else f"{NUM_IMAGES} random ones"
    found = {"images": images, "seconds": wall, **times, "accuracy": spread}
    yield f"{len(scores)} networks", found


COSTS = {
    section.__name__: section for section in (graphs, steps, whole, decoding, training, compiling)
}


def _random_images(folder: Path) -> Path:
    """Files of random pixels in ten classes, a folder for each."""
    generator = torch.Generator().manual_seed(0)
    for number in range(NUM_IMAGES):
        pixels = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8, generator=generator)
        place = folder / f"class{number % 10}" / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.numpy()).save(place)
    return folder


def _generate(module: Any, count: int) -> None:
    """Generate tokens as transformers does, greedily."""
    prompt = torch.arange(5, 37, device=module.device)[None]
    kept = {"do_sample": False, "max_new_tokens": count, "min_new_tokens": count}
    module.generate(prompt, attention_mask=torch.ones_like(prompt), **kept)


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `sortednet` in a process of its own."""
    line = [sys.executable, "-m", "sortednet_cli", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)


def endless(setup: Setup, preset: str, *overrides: str) -> tuple[Trainer, Iterator[Update]]:
    """The engine's own updates over random batches, without end."""
    spec, inputs, network = network_of(preset, list(overrides), str(setup.device))
    train = spec.train.model_copy(update={"updates": 1 << 30, "epochs": None})
    data: Any = Batches(random_part(inputs, 4, train.batch_size, network.device))
    rule, optimizer = make_rule(train, network.space), RootOptimizer(network, train)
    trainer = Trainer(network, task_of(inputs), rule, data, optimizer, train)
    return trainer, trainer.updates(Position(), lambda: False)


def _trained(setup: Setup, preset: str, *overrides: str) -> dict[str, Any]:
    """The losses and the weights of 20 updates, and the milliseconds of later ones."""
    trainer, running = endless(setup, preset, *overrides)
    losses = torch.stack([next(running).loss for _ in range(20)])
    weights = torch.cat([tensor.flatten() for tensor in trainer.network.weights.values()])
    # Many, so that nearly all of them are replays.
    milliseconds = _milliseconds(lambda: next(running), 60)
    trainer.release()
    return {"losses": losses, "weights": weights, "ms": milliseconds}


def _milliseconds(run: Callable[[], object], repeats: int = 30) -> float:
    """The mean of some runs in a row, after a few to warm up."""
    for _ in range(5):
        run()
    settle()
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    settle()
    return 1e3 * (time.perf_counter() - start) / repeats


def _kernels(running: Iterator[Update]) -> tuple[int, float]:
    """How many kernels an update launches, and the milliseconds that they take together."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        next(running)
        settle()
    own = [event for event in profiled.events() or () if event.device_type.name == "CUDA"]
    return len(own), sum(event.device_time for event in own) / 1e3
