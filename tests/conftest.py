"""One thread in all tests: outputs of views and copies are then equal bit for bit."""

from __future__ import annotations

import pytest
import torch

from tests.pico import PICOS, Pico


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(params=sorted(PICOS))
def pico(request: pytest.FixtureRequest) -> Pico:
    return PICOS[request.param]
