"""What one GPU must show, in minutes: the CPU's results, and what everything costs there.

    python -m benchmarks.speed.gpu_check [--data cifar10-jpeg.tar.xz] [--only weights tokens ...]

Each section fails alone, and is left out where no time is left. Prints what each found, and writes
all of it to benchmarks/results/gpu_check_DEVICE.json. `benchmarks/gpu.sh` runs it on a
machine that has hardly more than torch. Ends with exit code 1 if a section failed, or what must
hold does not.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from benchmarks.harness import device_suffix, write
from benchmarks.speed.gpu_costs import COSTS, Found, Setup, command, endless
from sortednet_cli.engine.generation import (
    Chooser,
    Decoder,
    EarlyExit,
    Greedy,
    Plain,
    Sampling,
    Strategy,
)
from sortednet_cli.engine.generation.causal import make_decoder
from sortednet_cli.engine.loaded import load_run
from sortednet_cli.engine.training.events import Interrupted
from sortednet_cli.engine.training.start import create_session, reopen_session
from sortednet_cli.machine.device import choose_device, true_fp32
from sortednet_cli.nesting import ignore_layout_warning
from sortednet_cli.spec import load_preset
from sortednet_cli.storage.run import RunFolder

CPU = torch.device("cpu")
OPTIMIZERS = ("sgd", "adamw", "rmsprop")
IMAGES = (
    *("train.updates=12", "train.recalibrate_samples=64", "train.warmup=0", "train.lr=1e-3"),
    *("space.width=[0.5,1.0]", "space.depth=[3,6]", "train.channels_last=true"),
    *("train.crossing_lr=0.3", "train.smallest_first=0.5"),
)
TEXTS = (
    *("model.config.hidden_size=64", "model.config.num_hidden_layers=4", "space.depth=[1,2,3,4]"),
    *("model.config.intermediate_size=96", "data.vocab_size=600", "data.max_length=96"),
    *("train.updates=40", "train.precision=fp32"),
)
WAYS: dict[str, Callable[[Decoder], Strategy]] = {
    "plain": lambda decoder: Plain(),
    "early exit": lambda decoder: EarlyExit({1: 0.3, 2: 0.5}),
    "4 drafts at depth 1": lambda decoder: decoder.speculative(1, 4),
    "automatic drafts": lambda decoder: decoder.speculative(),
}
CHOOSERS: dict[str, Callable[[torch.dtype], Chooser]] = {
    "greedy": Greedy,
    "drawn": lambda dtype: Sampling(0.8, 0.9, dtype=dtype),
}


def weights(setup: Setup) -> Found:
    """Largest difference of a weight: from the CPU's, trained again, and stopped and resumed."""
    for kind in OPTIMIZERS:
        sets = (*IMAGES, "train.precision=fp32", f"train.optimizer={kind}")
        apart = _apart(_train(setup, sets, CPU), _train(setup, sets, setup.device))
        yield f"fp32, {kind}", {"from_cpu": apart, "holds": apart < 1e-3}
    for name, settings in (("deterministic", ("train.deterministic=true",)), ("default", ())):
        sets = (*IMAGES, "train.precision=bf16", *settings)
        first = _train(setup, sets, setup.device)
        again = _apart(first, _train(setup, sets, setup.device))
        resumed = _apart(first, _train(setup, sets, setup.device, stop=5))
        found = {"again": again, "resumed": resumed}
        yield f"bf16, {name}", {**found, **({"holds": again == resumed == 0} if settings else {})}


def nothing(setup: Setup) -> Found:
    """An update whose loss is no number changes no weight."""
    for kind in OPTIMIZERS:
        sets = ("train.max_nonfinite=9", "train.warmup=0", f"train.optimizer={kind}")
        trainer, running = endless(setup, "digits-resnet", *sets)
        next(running)
        before = {n: p.detach().clone() for n, p in trainer.network.parameters.items()}
        task: Any = trainer.task
        loss = task.loss

        def spoilt(*arguments: Any, loss: Any = loss) -> Tensor:
            found: Tensor = loss(*arguments)
            return found * float("nan")

        object.__setattr__(task, "loss", spoilt)  # it is frozen
        next(running)
        apart = _apart(before, {n: p.detach() for n, p in trainer.network.parameters.items()})
        yield kind, {"apart": apart, "holds": apart == 0}


def tokens(setup: Setup) -> Found:
    """Every way of decoding a model with grouped keys, against the CPU's tokens."""
    run = setup.work / "texts"
    list(create_session(run, load_preset("pydoc-llama", list(TEXTS)), setup.device).events())
    source = load_run(run)
    cases = itertools.product(("fp32", "bf16"), WAYS.items(), CHOOSERS.items())
    for precision, (name, way), (how, make) in cases:
        texts = []
        for device in (CPU, setup.device):
            decoder = make_decoder(source, source.space.largest, device, precision)
            chooser = make(decoder.dtype)
            texts.append(list(decoder.stream([1, 5, 9], way(decoder), 48, chooser=chooser)))
        found: dict[str, Any] = {"same": texts[0] == texts[1], "tokens": len(texts[0])}
        if precision == "fp32" and name != "early exit":  # rounding may move a threshold's side
            found["holds"] = found["same"]
        yield f"{precision}, {name}, {how}", found


def rounding(setup: Setup) -> Found:
    """A convolution's error against float64, as torch does it and where fp32 is meant."""
    torch.manual_seed(0)
    inputs, kernel = torch.randn(8, 256, 16, 16), torch.randn(256, 256, 3, 3)
    exact = F.conv2d(inputs.double(), kernel.double())

    def error() -> float:
        made = F.conv2d(inputs.to(setup.device), kernel.to(setup.device)).cpu().double()
        return float((made - exact).norm() / exact.norm())

    yield "torch's default", {"error": error()}
    with true_fp32():
        found = error()
    yield "fp32", {"error": found, "holds": found < 1e-6}


def memory(setup: Setup) -> Found:
    """A full device is told in one message."""
    held: list[Tensor] = []
    try:
        for power in range(37, 20, -1):
            with suppress(torch.OutOfMemoryError):
                while True:
                    size = 1 << power
                    held.append(torch.empty(size, dtype=torch.uint8, device=setup.device))
        done = command("train", "--preset=digits-resnet", "--out", setup.work / "full")
    finally:
        held.clear()
        torch.cuda.empty_cache()
    told = done.stderr.strip().splitlines()
    yield "all of it taken", {"says": told[-1:], "holds": done.returncode == 1 and len(told) == 1}


SECTIONS: dict[str, Callable[[Setup], Found]] = {
    **{section.__name__: section for section in (weights, nothing, tokens, rounding, memory)},
    **COSTS,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="images to time a training on")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--seconds", type=float, default=480, help="then no section begins")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ignore_layout_warning()
    device, end = choose_device(options.device), time.monotonic() + options.seconds
    result: dict[str, Any] = {"sections": {}}
    with tempfile.TemporaryDirectory() as work:
        setup = Setup(device, options.data, Path(work))
        for name in options.only:
            late = time.monotonic() > end
            found = {"error": "left out: no time"} if late else _run(SECTIONS[name], setup)
            result["sections"][name] = found
            write("gpu_check" + device_suffix(str(device)), result)
    sys.exit(not all(_right(found) for found in result["sections"].values()))


def _run(section: Callable[[Setup], Found], setup: Setup) -> dict[str, Any]:
    """Run a section, printing what it finds; an error is found too."""
    print(f"{section.__name__}: {section.__doc__}", flush=True)
    found: dict[str, Any] = {}
    start = time.monotonic()
    try:
        for name, values in section(setup):
            found[name] = values
            shown = "  ".join(f"{key} {_short(value)}" for key, value in values.items())
            print(f"  {name:32s} {shown}", flush=True)
    except Exception as error:
        traceback.print_exc()
        found["error"] = f"{type(error).__name__}: {str(error)[:300]}"
    return {**found, "seconds": time.monotonic() - start}


def _right(found: dict[str, Any]) -> bool:
    """Whether a section came to its end, and all that must hold does."""
    values = [value for value in found.values() if isinstance(value, dict)]
    return "error" not in found and all(value.get("holds", True) for value in values)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _train(
    setup: Setup, sets: tuple[str, ...], device: torch.device, stop: int | None = None
) -> dict[str, Tensor]:
    """The weights of a short training; one that is stopped is resumed."""
    with tempfile.TemporaryDirectory(dir=setup.work) as folder:
        path, asked = Path(folder) / "run", itertools.count(1)
        fit = create_session(path, load_preset("digits-resnet", list(sets)), device)
        try:
            list(fit.events(lambda: stop is not None and next(asked) > stop))
        except Interrupted:
            list(reopen_session(RunFolder.open(path), device, ()).events())
        return load_file(path / "weights.safetensors")


def _apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of two weights."""
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)


if __name__ == "__main__":
    main()
