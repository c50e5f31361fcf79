"""Compiles a CUDA runtime that needs no GPU, for the torch that is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("runtime.c")
DONE = {b"cuDevicePrimaryCtxGetState"}
"""Functions of the driver that `runtime.c` has."""


class Missing(Exception):
    """Something that it takes is not on this machine."""


def build_runtime(folder: Path) -> Path:
    """Compile `runtime.c`, and return the library that is to be loaded before torch's own.

    It passes for the driver too: functions of the driver that torch looks up do nothing.

    Raises:
        Missing: the compiler, or a CUDA build of torch, or the headers of its wheels.
    """
    libraries = Path(torch.__file__).parent / "lib"
    driver_calls = libraries / "libcaffe2_nvrtc.so"
    if torch.version.cuda is None or not driver_calls.is_file():
        raise Missing("this torch was built without CUDA")
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise Missing("there is no C compiler")
    packages = Path(torch.__file__).parent.parent
    headers = [*packages.glob("nvidia/*/include"), packages / "triton/backends/nvidia/include"]
    if not any((place / "cuda_runtime_api.h").is_file() for place in headers):
        raise Missing("torch's wheels hold no CUDA headers")
    names = sorted(set(re.findall(rb"\0(cu[A-Z]\w*)(?=\0)", driver_calls.read_bytes())))
    driver = folder / "driver.c"
    empty = [f"int {name.decode()}(void) {{ return 0; }}\n" for name in names if name not in DONE]
    driver.write_text("".join(empty))
    made = folder / "libcuda.so.1"
    done = subprocess.run(
        [
            *(compiler, "-O1", "-w", "-shared", "-fPIC", f"-Wl,-soname,{made.name}"),
            *(f"-I{place}" for place in headers),
            *(SOURCE, driver, "-o", made),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return made
