"""Settings that make glibc's allocator keep freed memory. No torch.

A pass over hundreds of images frees activations of tens of megabytes and allocates them again.
glibc maps each block above a threshold (32 MiB at most) anew, unmaps it when it is freed, and trims
the top of its heap. The kernel then clears the same pages again in every forward pass. The command
line makes glibc keep them. Importing `sortednet_cli` does not, because a library must not change
its host's allocator.

Constants are those of glibc's `malloc.h`; see `man 3 mallopt`.
"""

from __future__ import annotations

import ctypes
import os
import sys

VARIABLE = "SORTEDNET_ALLOCATOR"
"""Environment variable; the value `system` leaves the allocator as it is."""

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_SETTINGS = (
    ("M_MMAP_MAX", _M_MMAP_MAX, 0),  # allocate large blocks in the heap instead of mapping each
    ("M_TRIM_THRESHOLD", _M_TRIM_THRESHOLD, -1),  # never trim the heap
    ("M_TOP_PAD", _M_TOP_PAD, 64 << 20),  # grow the heap in steps of 64 MiB
)


class _State:
    """What `keep_freed_memory` has done in this process.

    Attributes:
        libc: the library whose settings were changed; None if none were.
        status: what was set, or why nothing was, in one line.
    """

    libc: ctypes.CDLL | None = None
    status = "memory: the allocator as it is"


def keep_freed_memory() -> None:
    """Make glibc keep freed memory, unless the user has configured the allocator.

    Call this before anything large is allocated. It changes nothing without glibc, with another
    allocator, or if one of glibc's own variables is set.
    """
    reason = _reason_against()
    if reason is None:
        libc = ctypes.CDLL(None)
        if all(libc.mallopt(number, value) == 1 for _, number, value in _SETTINGS):
            _State.libc = libc
            values = ", ".join(f"{name}={value}" for name, _, value in _SETTINGS)
            _State.status = f"memory: glibc keeps what is freed ({values})"
            return
        reason = "glibc refused the settings"
    _State.status = f"memory: the allocator as it is ({reason})"


def release() -> None:
    """Return freed memory to the system at the end of a phase, if the allocator keeps it."""
    if _State.libc is not None:
        _State.libc.malloc_trim(0)


def status() -> str:
    """Return what was set, or why nothing was, in one line."""
    return _State.status


def _reason_against() -> str | None:
    """Return the reason for leaving the allocator alone; None if there is none."""
    if os.environ.get(VARIABLE) == "system":
        return f"{VARIABLE}=system"
    if not _is_glibc():
        return "the C library is not glibc"
    if variables := [name for name in os.environ if name.startswith("MALLOC_")]:
        return f"{min(variables)} is set"
    if "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", ""):
        return "GLIBC_TUNABLES is set"
    if not _uses_glibc_malloc():
        return "malloc is not glibc's"
    return None


def _is_glibc() -> bool:
    if sys.platform != "linux":
        return False
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, OSError):  # musl
        return False


def _uses_glibc_malloc() -> bool:
    """Whether `malloc` is glibc's: a preloaded library may replace it."""
    try:
        glibc = ctypes.CDLL("libc.so.6")
        return _address(ctypes.CDLL(None)) == _address(glibc)
    except (AttributeError, OSError):
        return False


def _address(library: ctypes.CDLL) -> int | None:
    return ctypes.cast(library.malloc, ctypes.c_void_p).value
