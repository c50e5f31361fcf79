"""The precision that a network trains in, what its processor has for it, and its random state."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from sortednet_cli.logs import logger

_ISA_LIMIT = "ONEDNN_MAX_CPU_ISA"
_ISA_WITH_AVX512 = ("AVX512", "AVX10", "ALL", "DEFAULT")
_ISA_WITH_BF16 = ("BF16", "FP16", "AMX", "AVX10", "ALL", "DEFAULT")


def in_bf16(precision: str, device: torch.device) -> bool:
    """Whether passes run under bfloat16 autocast; `auto` uses it if the device supports it."""
    return precision == "bf16" or (precision == "auto" and has_bf16(device))


def has_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware, without emulation."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return device.type == "xpu"
    limit = os.environ.get(_ISA_LIMIT, "").upper()
    if limit and not any(word in limit for word in _ISA_WITH_BF16):
        return False
    # Versions of torch up to 2.11 cannot say; assume no hardware support.
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def has_avx512() -> bool:
    """Whether the processor has AVX-512, and oneDNN may use it."""
    limit = os.environ.get(_ISA_LIMIT, "DEFAULT").upper()
    has = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return has and limit.startswith(_ISA_WITH_AVX512)


def warn_of_emulation(precision: str, device: torch.device) -> None:
    """Log a warning if `bf16` is requested and the device would emulate it."""
    if precision == "bf16" and not has_bf16(device):
        logger.warning(
            "train.precision = bf16: this %s has no bfloat16 hardware; emulating it is slower than"
            " fp32; train.precision=auto takes what is faster here",
            "processor" if device.type == "cpu" else "device",
        )


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed the generators that dropout on `device` draws from, as `torch.manual_seed` does.

    `torch.manual_seed` also looks for every other kind of device, which takes longer than a small
    pass.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
