"""A run of three sizes, with room for texts that take seconds, and a server of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from tests.cli.test_generate import PICO
from tests.commands import command
from tests.served import NAME, Served, serving


@pytest.fixture(scope="package")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three sizes, with room for texts that take seconds."""
    folder = tmp_path_factory.mktemp("serve") / NAME
    long = "--set=model.config.max_position_embeddings=8192"
    done = command("train", *PICO, long, "--quiet", "--out", folder)
    assert (done.code, done.err) == (0, ""), done
    return folder


@pytest.fixture(scope="package")
def served(run: Path) -> Iterator[Served]:
    with serving(run) as server:
        yield server


@pytest.fixture
def client(served: Served) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        yield client
