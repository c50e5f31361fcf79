"""The C library's allocator, told to keep the memory that is freed. No torch.

A pass over hundreds of images frees activations of tens of megabytes and asks for them again.
glibc maps every block above a threshold (32 MiB at most) afresh, gives it back when it is freed,
and trims the top of its heap, so that the kernel clears the same pages over and over, in the middle
of every forward pass. The command line asks glibc to keep them. Importing
`sortednet_cli` never does: a library does not change its host's allocator.

Constants are those of glibc's `malloc.h`; see `man 3 mallopt`.
"""

from __future__ import annotations

import ctypes
import os
import sys

VARIABLE = "SORTEDNET_ALLOCATOR"
"""Set to `system`, it leaves the allocator as it is."""

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_SETTINGS = (
    ("M_MMAP_MAX", _M_MMAP_MAX, 0),  # nothing is mapped by itself: all blocks lie in the heap
    ("M_TRIM_THRESHOLD", _M_TRIM_THRESHOLD, -1),  # whose top is never given back
    ("M_TOP_PAD", _M_TOP_PAD, 64 << 20),  # and which grows in steps of 64 MiB
)


class _State:
    """What `keep_freed_memory` has done in this process."""

    libc: ctypes.CDLL | None = None
    said = "memory: the allocator as it is"


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed; do nothing where there is no glibc, or others chose.

    Has to come before anything large is allocated. Whoever has set glibc's own variables, or
    brought another allocator, keeps theirs.
    """
    reason = _why_not()
    if reason is None:
        libc = ctypes.CDLL(None)
        if all(libc.mallopt(number, value) == 1 for _, number, value in _SETTINGS):
            _State.libc = libc
            values = ", ".join(f"{name}={value}" for name, _, value in _SETTINGS)
            _State.said = f"memory: glibc keeps what is freed ({values})"
            return
        reason = "glibc refused the settings"
    _State.said = f"memory: the allocator as it is ({reason})"


def release() -> None:
    """Give back what a finished phase has freed; does nothing unless freed memory is kept."""
    if _State.libc is not None:
        _State.libc.malloc_trim(0)


def said() -> str:
    """What was set, or why nothing was, in one line."""
    return _State.said


def _why_not() -> str | None:
    """Why the allocator is to be left alone; None where it is not."""
    if os.environ.get(VARIABLE) == "system":
        return f"{VARIABLE}=system"
    if not _is_glibc():
        return "the C library is not glibc"
    if chosen := [name for name in os.environ if name.startswith("MALLOC_")]:
        return f"{min(chosen)} is set"
    if "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", ""):
        return "GLIBC_TUNABLES is set"
    if not _is_its_own():
        return "malloc is not glibc's"
    return None


def _is_glibc() -> bool:
    if sys.platform != "linux":
        return False
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, OSError):  # musl
        return False


def _is_its_own() -> bool:
    """Whether this process takes its memory from glibc: a preloaded library may stand before it."""
    try:
        glibc = ctypes.CDLL("libc.so.6")
        return _address(ctypes.CDLL(None)) == _address(glibc)
    except (AttributeError, OSError):
        return False


def _address(library: ctypes.CDLL) -> int | None:
    return ctypes.cast(library.malloc, ctypes.c_void_p).value
