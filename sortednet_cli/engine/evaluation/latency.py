"""Measurement of the latency of a forward pass."""

from __future__ import annotations

import statistics
import time

import torch

from sortednet_cli.data import InputFormat
from sortednet_cli.machine.device import describe_device, true_fp32
from sortednet_cli.machine.memory import describe_pass, enough_memory
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.space import SubModel

WARMUP = 5
REPEATS = 25


def describe(device: torch.device, batch_size: int = 1) -> dict[str, int | str]:
    """Return the conditions of a latency: batch size, threads and device."""
    return {
        "batch_size": batch_size,
        "threads": torch.get_num_threads(),
        "device": describe_device(device),
    }


@torch.no_grad()
@true_fp32()
def latency_ms(
    network: NestedNetwork, submodel: SubModel, inputs: InputFormat, batch_size: int = 1
) -> float:
    """Measure the median time of a forward pass of the standalone sub-model, after warm-up.

    Returns:
        Milliseconds per batch of `batch_size` samples.

    Raises:
        WorkError: memory ran out.
    """
    times = []
    with enough_memory(describe_pass([submodel], batch_size), "use a device with more"):
        module = network.standalone(submodel)
        with network.device:
            samples = inputs.random_inputs(batch_size)
        for repeat in range(WARMUP + REPEATS):
            _synchronize(network.device)
            start = time.perf_counter()
            network.family.forward(module, samples)
            _synchronize(network.device)
            if repeat >= WARMUP:
                times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
