"""Measurement of the latency of a forward pass."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from sortednet_cli.data import InputFormat
from sortednet_cli.machine.device import describe_device, true_fp32, wait_for
from sortednet_cli.machine.memory import describe_pass, enough_memory
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.space import SubModel

WARMUP = 5
REPEATS = 25


def describe(device: torch.device, runtime: str = "torch") -> dict[str, int | str]:
    """Return the conditions of a latency: runtime, batch size, threads and device."""
    return {
        "runtime": runtime,
        "batch_size": 1,
        "threads": torch.get_num_threads(),
        "device": describe_device(device),
    }


@torch.no_grad()
@true_fp32()
def latency_ms(network: NestedNetwork, submodel: SubModel, inputs: InputFormat) -> float:
    """Measure the median time of a forward pass of the standalone sub-model, after warm-up.

    Returns:
        Milliseconds for one sample.

    Raises:
        WorkError: memory ran out.
    """
    with enough_memory(describe_pass([submodel], 1), "use a device with more"):
        module = network.standalone(submodel)
        with network.device:
            samples = inputs.random_inputs(1)

        def one_pass() -> None:
            network.family.forward(module, samples)
            wait_for(network.device)

        wait_for(network.device)
        return median_ms(one_pass)


def median_ms(
    one_pass: Callable[[], object], warmup: int = WARMUP, repeats: int = REPEATS
) -> float:
    """Return the median time of a pass after warm-up, in milliseconds."""
    times = []
    for repeat in range(warmup + repeats):
        start = time.perf_counter()
        one_pass()
        if repeat >= warmup:
            times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)
