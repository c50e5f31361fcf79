"""A full queue, clients that go away, and signals."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.commands import environment
from tests.served import GOOD, Served, serving


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_full_queue_sends_clients_away(run: Path) -> None:
    with serving(run, "--max-active=1", "--max-queue=2") as server:
        long = {**GOOD, "max_tokens": 500}
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda: answers.append(server.post("/v1/completions", long)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counts = [answer.status for answer in answers]
        assert set(counts) == {200, 429} and counts.count(200) in (3, 4)
        for answer in answers:
            if answer.status == 429:
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.error["code"] == "queue_full"
                assert answer.error["type"] == "rate_limit_error"
        assert server.metric("refused_total") == counts.count(429)


@pytest.mark.parametrize("stream", [False, True])
def test_work_ends_when_its_client_goes_away(served: Served, stream: bool) -> None:
    cancelled = served.metric("requests_total")
    tokens = served.metric("generated_tokens_total")
    connection = served.connection()
    body = json.dumps({**GOOD, "max_tokens": 8000, "stream": stream})
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    until(lambda: served.metric("active") == 1)
    if stream:
        assert connection.getresponse().read(40)
    assert connection.sock is not None
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    until(lambda: served.metric("active") == 0)
    assert served.metric("requests_total") == cancelled + 1
    assert served.metric("generated_tokens_total") == tokens  # it did not end by itself


def test_a_signal_lets_running_requests_end_and_refuses_the_rest(run: Path) -> None:
    with serving(run, "--max-active=2", "--grace=600") as server:
        answers: list[Any] = []
        long = {**GOOD, "max_tokens": 1000}

        def ask() -> None:
            answers.append(server.post("/v1/completions", long))

        threads = [threading.Thread(target=ask) for _ in range(5)]
        for thread in threads:
            thread.start()
        until(lambda: (server.metric("active"), server.metric("queue")) == (2, 3))
        server.process.send_signal(signal.SIGTERM)
        until(lambda: len(answers) == 3)
        late = server.post("/v1/completions", GOOD)
        assert (late.status, server.ask("GET", "/health").status) == (503, 503)
        assert late.error["type"] == "server_error" and "retry-after" in late.headers
        for thread in threads:
            thread.join()
        assert [answer.status for answer in answers] == [503, 503, 503, 200, 200]
        for answer in answers[3:]:
            assert answer.document["usage"]["completion_tokens"] == 1000
        out, err = server.process.communicate(timeout=600)
        assert (server.process.returncode, out, err) == (128 + signal.SIGTERM, "", "")


@pytest.mark.parametrize("stream", [False, True])
def test_what_takes_longer_than_the_grace_is_cut_off(run: Path, stream: bool) -> None:
    with serving(run, "--grace=0.2") as server:
        answers: list[Any] = []
        long = {**GOOD, "max_tokens": 8000, "stream": stream}
        thread = threading.Thread(
            target=lambda: answers.append(server.post("/v1/completions", long))
        )
        thread.start()
        until(lambda: server.metric("active") == 1)
        server.process.send_signal(signal.SIGINT)
        _, err = server.process.communicate(timeout=600)
        thread.join()
        assert server.process.returncode == 128 + signal.SIGINT
        assert err == "1 requests took longer than 0.2 s and were cut off\n"
        if stream:
            events = answers[0].body.decode().split("\n\n")
            assert "the server is stopping" in events[-2] and "[DONE]" not in events[-2]
        else:
            assert (answers[0].status, answers[0].error["code"]) == (503, None)


def test_a_second_signal_stops_at_once(run: Path) -> None:
    with serving(run, "--grace=600") as server, closing(server.connection()) as connection:
        body = json.dumps({**GOOD, "max_tokens": 8000})
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        until(lambda: server.metric("active") == 1)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.ask("GET", "/health").status == 503)
        server.process.send_signal(signal.SIGINT)
        _, err = server.process.communicate(timeout=600)
        assert server.process.returncode == 128 + signal.SIGINT
        assert err == "interrupted; nothing was left half-written\n"
        answer = connection.getresponse()
        assert answer.status == 503 and "the server is stopping" in answer.read().decode()


def test_a_thread_within_a_pass_does_not_abort_the_process() -> None:
    """Python cannot end a thread that runs torch: it aborts, whatever the exit code was to be."""
    script = """
import sys, threading, time
import torch
from sortednet_cli import engine
from sortednet_cli.cli.main import main

def work():
    matrix = torch.randn(1500, 1500)
    while True:
        torch.mm(matrix, matrix)

def serve(*_):
    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.5)
    return False

engine.serve = serve
sys.argv = ["sortednet", "serve", "run"]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
