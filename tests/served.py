"""A server in a process of its own, and plain HTTP to it."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.commands import start

NAME = "pico"
GOOD: dict[str, Any] = {"model": NAME, "prompt": "a", "temperature": 0, "max_tokens": 2}
"""A request that every server of the run `pico` answers."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error, of which every answer but a success has one in this form."""
        document = self.document
        assert self.status >= 400, document
        assert document.keys() == {"error"}
        assert document["error"].keys() == {"message", "type", "param", "code"}
        error: dict[str, Any] = document["error"]
        return error


@dataclass(frozen=True)
class Served:
    """A running server."""

    process: subprocess.Popen[str]
    url: str

    def connection(self) -> http.client.HTTPConnection:
        address = urlsplit(self.url)
        assert address.hostname is not None
        return http.client.HTTPConnection(address.hostname, address.port, timeout=600)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send one request; `content_type="..."` is the header `Content-Type`."""
        connection = self.connection()
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, names)
            found = connection.getresponse()
            return Answer(found.status, dict(found.getheaders()), found.read())
        finally:
            connection.close()

    def post(self, path: str, document: Any) -> Answer:
        """Send JSON."""
        body = json.dumps(document).encode()
        return self.ask("POST", path, body, content_type="application/json")

    def metric(self, name: str) -> float:
        """The sum of a counter or gauge over its labels."""
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        key = f"sortednet_{name}"
        values = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        return sum(float(value) for label, value in values if label.split("{")[0] == key)


@contextmanager
def serving(*arguments: str | Path) -> Iterator[Served]:
    """Start a server on a free port, and wait until it answers; kill it at the end."""
    process = start("serve", *arguments, "--port=0", "--quiet")
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url, process.communicate()
        yield Served(process, url)
    finally:
        process.kill()
        process.communicate()
