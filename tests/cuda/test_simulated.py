"""The CUDA side on every machine that has a compiler and a CUDA build of torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import environment
from tests.cuda.build import Missing, build_runtime

FOLDER = Path(__file__).parent
ON_GPU = (FOLDER / "on_gpu.py", FOLDER / "graphs.py", FOLDER / "decoding.py")


def test_the_cuda_side_on_a_simulated_gpu(tmp_path: Path) -> None:
    """In a process of its own: the runtime must be there before torch is."""
    try:
        runtime = build_runtime(tmp_path)
    except Missing as missing:
        pytest.skip(f"the CUDA side was left out: {missing}")
    variables = environment(LD_PRELOAD=str(runtime), SORTEDNET_CACHE=str(tmp_path / "cache"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *ON_GPU],
        cwd=FOLDER.parents[1],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
