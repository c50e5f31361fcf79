"""The command line has glibc keep freed memory; who imports the package keeps their allocator."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from sortednet_cli import allocator
from tests.commands import SORTEDNET, command

IS_GLIBC = platform.libc_ver()[0] == "glibc"
KEPT = "memory: glibc keeps what is freed (M_MMAP_MAX=0" if IS_GLIBC else "(the C library is not"


def clean(**variables: str) -> dict[str, str]:
    """This environment without anybody's choice of an allocator, and with these variables."""
    chosen = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", allocator.VARIABLE)
    return {k: v for k, v in os.environ.items() if not k.startswith(chosen)} | variables


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, KEPT),
        ({"SORTEDNET_ALLOCATOR": "system"}, "as it is (SORTEDNET_ALLOCATOR=system)"),
        ({"MALLOC_ARENA_MAX": "2"}, "(MALLOC_ARENA_MAX is set)" if IS_GLIBC else KEPT),
        (
            {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"},
            "(GLIBC_TUNABLES is set)" if IS_GLIBC else KEPT,
        ),
        ({"GLIBC_TUNABLES": "glibc.cpu.x86_rep_movsb_threshold=2048"}, KEPT),  # another matter
    ],
)
def test_verbose_says_what_was_set(variables: dict[str, str], said: str) -> None:
    done = subprocess.run(
        [SORTEDNET, "presets", "--verbose"],
        capture_output=True,
        text=True,
        check=True,
        env=clean(**variables),
    )
    assert said in done.stderr
    assert "memory" not in done.stdout


def test_another_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that stands before glibc's has another `malloc`."""
    addresses = iter((1, 2))
    monkeypatch.setattr(allocator, "_address", lambda library: next(addresses))
    for name in set(os.environ) - set(clean()):
        monkeypatch.delenv(name)
    assert allocator._reason_against() is not None


def test_who_imports_the_package_is_left_alone() -> None:
    assert command("presets").code == 0
    allocator.release()
    assert allocator.status() == "memory: the allocator as it is"


KEEP = """
import ctypes, os
from sortednet_cli import allocator

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

def use(libc):
    place = libc.malloc(256 << 20)
    ctypes.memset(place, 1, 256 << 20)
    libc.free(ctypes.c_void_p(place))
    return resident()

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
before, given_back = resident(), use(libc)
allocator.keep_freed_memory()
kept = use(libc)
allocator.release()
print(given_back - before, kept - before, resident() - before)
"""


@pytest.mark.parametrize("shown", ["/proc/self/statm"] if IS_GLIBC else [])
def test_what_is_freed_stays_until_it_is_released(shown: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KEEP], capture_output=True, text=True, check=True, env=clean()
    )
    given_back, kept, released = map(int, done.stdout.split())
    assert given_back < 32 and kept >= 256 and released < 32
