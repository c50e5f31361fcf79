"""Devices, as far as a machine without any can tell: which one, whose memory, what it waits for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from sortednet_cli.distributed.processes import PeerLost, Processes, lost_peers
from sortednet_cli.engine.generation.timings import LayerTimings
from sortednet_cli.engine.training import driver
from sortednet_cli.engine.training.backends import replicated
from sortednet_cli.engine.training.start import create_session
from sortednet_cli.errors import RequestError
from sortednet_cli.machine import memory
from sortednet_cli.machine.device import choose_device, finishes_in_time, true_fp32
from sortednet_cli.machine.memory import lack_of_memory
from sortednet_cli.spec import load_preset
from tests.commands import TINY

CPU = torch.device("cpu")
SETS = [word.removeprefix("--set=") for word in TINY[1:]]
EVERY = "train.log_every=1"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend to have so many accelerators of a kind; returns the list of those made current."""
    current: list[int] = []
    real = torch.ones

    def have(kind: str, count: int = 1, **job: int) -> list[int]:
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
        found = torch.device(kind)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: found)
        monkeypatch.setattr(torch.accelerator, "set_device_index", current.append)
        monkeypatch.setattr(torch, "ones", lambda *size, **_: real(*size))
        for name, value in job.items():
            monkeypatch.setenv(name, str(value))
        return current

    return have


@pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
def test_auto_takes_the_accelerator_that_there_is(machine: Any, kind: str) -> None:
    assert machine(kind) == []
    assert choose_device("auto") == choose_device(kind) == torch.device(kind)
    assert choose_device("cpu") == CPU


def test_each_process_takes_its_own_and_touches_no_other(
    machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = machine("cuda", 2, WORLD_SIZE=4, LOCAL_WORLD_SIZE=2, LOCAL_RANK=1)
    made: list[tuple[list[int], torch.device]] = []
    monkeypatch.setattr(torch, "ones", lambda _, device: made.append(([*current], device)) or 1)
    for name in ("auto", "cuda"):
        assert choose_device(name) == torch.device("cuda:1")
    # It was the current one before anything was made on it.
    assert made[0] == ([1], torch.device("cuda:1"))
    with pytest.raises(RequestError, match=r"cuda:0 is one device for 2 processes .* take cuda"):
        choose_device("cuda:0")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert choose_device("cuda:0") == torch.device("cuda:0")


def test_more_processes_than_devices(machine: Any) -> None:
    machine("cuda", 1, WORLD_SIZE=2, LOCAL_WORLD_SIZE=2)
    with pytest.raises(RequestError, match="2 processes on this machine, but 1 such devices"):
        choose_device("auto")
    machine("mps", 1)
    assert choose_device("auto") == CPU
    with pytest.raises(RequestError, match="--device mps serves one process"):
        choose_device("mps")


LACKS = {
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB of"
    " which 1 GiB is free. Of the allocated memory 5 GiB is allocated by PyTorch.": (
        "Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB of which 1 GiB is free"
    ),
    "XPU out of memory. Tried to allocate 4.66 GiB. Please use `empty_cache` to release": (
        "Tried to allocate 4.66 GiB"
    ),
    "MPS backend out of memory (MPS allocated: 5.56 GB, max allowed: 6.80 GB). Tried to allocate"
    " 768.00 MB on private pool. Use PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0 to disable": (
        "MPS backend out of memory (MPS allocated: 5.56 GB, max allowed: 6.80 GB). Tried to"
        " allocate 768.00 MB on private pool"
    ),
    "Invalid buffer size: 14.90 GB": "Invalid buffer size: 14.90 GB",
    "CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`": "CUDA error: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`": (
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    ),
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED": (
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"
    ),
    "Caught RuntimeError in pin memory thread for device 0.\nOriginal Traceback:\n  File ...\n"
    "RuntimeError: CUDA error: out of memory\n": "RuntimeError: CUDA error: out of memory",
    "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)": (
        "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"
    ),
}


@pytest.mark.parametrize("text", LACKS)
def test_too_little_memory_is_known_by_what_each_library_writes(text: str) -> None:
    kind = torch.OutOfMemoryError if "out of memory. Tried" in text else RuntimeError
    assert lack_of_memory(kind(text)) == LACKS[text]


NCCL = "NCCL error in: NCCLUtils.cpp:77, unhandled cuda error\nLast error:\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (dist.DistBackendError(f"{NCCL}socketProgress: Connection closed"), PeerLost),
        (
            RuntimeError("[third_party/gloo/gloo/tcp/pair.cc:537] Connection closed by peer"),
            PeerLost,
        ),
        (RuntimeError("The size of tensor a (4) must match the size of tensor b"), RuntimeError),
        (dist.DistBackendError(f"{NCCL}Cuda failure 2 'out of memory'"), dist.DistBackendError),
    ],
)
def test_only_what_is_about_peers_says_so(error: RuntimeError, told: type[Exception]) -> None:
    with pytest.raises(told) as found, lost_peers():
        raise error
    assert type(found.value) is told
    if told is dist.DistBackendError:
        assert lack_of_memory(error) == "Cuda failure 2 'out of memory'"


class _Died(Processes):
    """Two processes, the other of which is gone by the third update."""

    asked = 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        type(self).asked += 1
        if self.asked > 2:
            raise PeerLost("another process of this training has died")
        return flags

    def sum(self, tensor: torch.Tensor) -> None: ...

    def broadcast(self, tensors: list[torch.Tensor]) -> None: ...


@pytest.mark.parametrize("ends", [True, False])
def test_a_device_that_waits_for_a_dead_peer_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """What it holds is then of no use, and reading it would wait for ever."""
    monkeypatch.setattr(driver, "finishes_in_time", lambda device, **_: ends)
    monkeypatch.setattr(replicated, "finishes_in_time", lambda device, **_: ends)
    _Died.asked = 0
    fit = create_session(tmp_path / "run", load_preset("digits-resnet", SETS), CPU)
    fit.processes = _Died(count=2)
    told = "update 2 is saved" if ends else "no update is saved"
    with pytest.raises(PeerLost, match=f"has died; {told}"):
        list(fit.events())


def test_a_device_that_is_asked_to_log_waits_no_longer_than_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "finishes_in_time", lambda device, **_: False)
    monkeypatch.setattr(replicated, "finishes_in_time", lambda device, **_: False)
    _Died.asked = -10
    fit = create_session(tmp_path / "run", load_preset("digits-resnet", [*SETS, EVERY]), CPU)
    fit.processes = _Died(count=2)
    with pytest.raises(PeerLost, match="the device waits for another process"):
        list(fit.events(lambda: fit.run.path.exists() and _Died.asked > -10))


def test_a_cpu_has_always_ended() -> None:
    assert finishes_in_time(CPU, seconds=0)


class _Slow:
    """A stack on a device that works in its own time: 2 ms for each position that was asked for."""

    depth, capacity, device = 2, 32, torch.device("meta")  # with a clock of its own

    def __init__(self) -> None:
        self.due = 0.0
        self.rows = 0

    def push(self, tokens: list[int]) -> None:
        self.rows = len(tokens)

    def advance(self, depth: int) -> None:
        self.due = time.perf_counter() + 2e-3 * self.rows

    def wait(self) -> None:
        time.sleep(max(0.0, self.due - time.perf_counter()))

    def truncate(self, length: int) -> None: ...

    def logits(self, count: int) -> torch.Tensor:
        self.wait()
        return torch.zeros(count, 2)

    def draft_logits(self) -> torch.Tensor:
        return self.logits(1)[0]


def test_layers_are_timed_until_the_device_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sortednet_cli.engine.generation.timings._MOST", 3)
    stack: Any = _Slow()
    pace = LayerTimings.measure(stack)
    assert pace.layer[1] >= 1e-3
    assert pace.layer[8] >= 8e-3
    assert pace.head[8] < 8e-3  # the device had nothing left to do


def test_float32_means_float32_while_something_runs_and_only_then(tmp_path: Path) -> None:
    cudnn, product = torch.backends.cudnn, torch.backends.cuda.matmul
    assert cudnn.allow_tf32
    product.fp32_precision = "tf32"
    try:
        with true_fp32():
            assert (cudnn.allow_tf32, product.fp32_precision) == (False, "ieee")
        assert (cudnn.allow_tf32, product.fp32_precision) == (True, "tf32")
    finally:
        product.fp32_precision = "none"
    fit = create_session(tmp_path / "run", load_preset("digits-resnet", SETS), CPU)
    assert {cudnn.allow_tf32 for _ in fit.events()} == {False}
    assert cudnn.allow_tf32


GIB = 1 << 30


@pytest.mark.parametrize(
    ("system", "limit", "free"),
    [
        ("MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n", None, 4 * GIB),
        ("MemAvailable: 4194304 kB\n", "max", 4 * GIB),
        ("MemAvailable: 4194304 kB\n", 3 * GIB, 2 * GIB),  # 2 are used, of which 1 holds files
        ("MemAvailable: 1048576 kB\n", 3 * GIB, GIB),
        ("MemAvailable: 1048576 kB\n", GIB // 2, 0),
        (None, None, None),
    ],
)
def test_free_memory_of_a_processor(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    system: str | None,
    limit: object,
    free: int | None,
) -> None:
    monkeypatch.setattr(memory, "_SYSTEM", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    if system is not None:
        (tmp_path / "meminfo").write_text(system)
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{2 * GIB}\n")
        (tmp_path / "memory.stat").write_text(f"anon {GIB}\ninactive_file {GIB}\n")
    assert memory.free_memory(torch.device("cpu")) == free
