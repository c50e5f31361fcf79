"""What every speed benchmark shares: taking turns, ratios, networks of a preset, and results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sortednet_cli import LoadedRun, load_run
from sortednet_cli.data import InputFormat, nominal_format
from sortednet_cli.engine.training.measured import with_measured
from sortednet_cli.errors import SortednetError
from sortednet_cli.families import Inputs, open_family, root_of
from sortednet_cli.machine.device import move_to
from sortednet_cli.machine.versions import versions
from sortednet_cli.nesting import NestedNetwork, init_network
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import RunSpec, load_preset

RESULTS = Path(__file__).parent / "results"
PLAIN = (
    "train.draws=1",
    "train.distill=false",
    "train.largest_first=0",
    "train.smallest_first=0",
    "train.accumulate=1",
)
"""A preset's settings for a benchmark that sets a rule of its own."""

Work = Callable[[], object]


def in_turn(work: Mapping[str, Work], repeats: int, warmup: int = 2) -> dict[str, list[float]]:
    """Seconds of each piece of work, one after the other in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(warmup + repeats):
        for name, run in work.items():
            start = clock()
            run()
            settle()
            if repeat >= warmup:
                seconds[name].append(clock() - start)
    return seconds


def clock() -> float:
    """Seconds of a clock: of CPU time on one thread, which other processes hardly change."""
    alone = torch.get_num_threads() == 1 and not torch.accelerator.is_available()
    return time.process_time() if alone else time.perf_counter()


def settle() -> None:
    """Wait until the accelerator, if there is one, has done what it was given."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def device_suffix(device: str) -> str:
    """What the names of results that were not made on a CPU end with: `_nvidia_h100`."""
    if torch.device(device).type == "cpu":
        return ""
    words = torch.cuda.get_device_name(device).lower().replace("-", " ").split()
    return "_" + "_".join(words[:2])


def ratio(seconds: Mapping[str, list[float]], one: str, other: str) -> float:
    """Median over the rounds of `one` / `other`."""
    pairs = zip(seconds[one], seconds[other], strict=True)
    return statistics.median(a / b for a, b in pairs)


def write(name: str, result: Mapping[str, Any], path: Path | None = None) -> None:
    """Write a result with the machine, versions and command that it must be quoted with."""
    about = {"command": command_line(), "machine": machine()}
    path = path or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**about, "versions": versions(), **result}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def tell(main: Callable[[], None]) -> None:
    """Run a benchmark; an error that a person can cause ends it in one message."""
    try:
        main()
    except SortednetError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def positive(text: str) -> int:
    """A number of repeats and the like, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"at least 1, not {value}")
    return value


def over_runs(
    name: str,
    about: str,
    measure: Callable[[LoadedRun], Mapping[str, Any]],
    table: Callable[[dict[str, Any]], str],
) -> None:
    """The whole of a benchmark that measures finished runs, named on its command line."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {"runs": [measure(load_run(path)) for path in options.runs]}
    write(name, result)
    print(table(result))


def command_line() -> str:
    """The running command as a reader would type it: paths by their last name."""
    words = [re.sub(r"(?<![^=])/[^ ]*", lambda path: Path(path[0]).name, w) for w in sys.argv[1:]]
    spec = sys.modules["__main__"].__spec__
    assert spec is not None  # every benchmark runs as a module
    return shlex.join(["python", "-m", spec.name, *words])


def machine() -> dict[str, Any]:
    """Processor, its cores, the threads used, and the accelerator if there is one."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


@dataclass(frozen=True)
class RandomPart:
    """A part of random samples, the same ones every time, held where the model is.

    Attributes:
        samples: inputs and targets of each batch.
        num_bytes: as a part of real texts has it; metrics by byte mean nothing here.
    """

    samples: list[tuple[Inputs, Tensor]]
    num_bytes: int = 1

    def __len__(self) -> int:
        return sum(len(targets) for _, targets in self.samples)

    def batches(
        self, batch_size: int, device: torch.device, limit: int | None = None
    ) -> Iterator[tuple[Inputs, Tensor]]:
        yield from self.samples


def random_part(
    inputs: InputFormat, count: int, batch_size: int, device: torch.device
) -> RandomPart:
    """Random inputs of a task with random targets, which for texts stay on the host as in data."""
    torch.manual_seed(0)
    samples: list[tuple[Inputs, Tensor]] = []
    for _ in range(count):
        made = inputs.random_inputs(batch_size)
        shape = inputs.output_shape(batch_size)
        targets = torch.randint(0, shape[-1], shape[:-1])
        if isinstance(made, dict):
            samples.append(({name: tensor.to(device) for name, tensor in made.items()}, targets))
        else:
            samples.append((made.to(device), targets.to(device)))
    return RandomPart(samples)


def network_of(
    preset: str, overrides: list[str], device: str = "cpu"
) -> tuple[RunSpec, InputFormat, NestedNetwork]:
    """A preset's nested network, ready to train, with random weights: no data, no download."""
    spec = load_preset(preset, overrides)
    inputs = nominal_format(spec)
    family = open_family(root_of(spec.model, spec.task, inputs.facts()))
    spec = with_measured(spec, family, inputs, torch.device(device))
    module = move_to(init_network(family, 0), torch.device(device), spec.train.in_channels_last)
    network = NestedNetwork(family, SearchSpace.of(spec.space), module)
    network.enable_training(in_place=device != "cpu")
    return spec, inputs, network
