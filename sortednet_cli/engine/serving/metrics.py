"""Counters of the server, and their text in Prometheus's format. No torch."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping

from sortednet_cli.engine.serving.jobs import Classified, Event, Failed, Finished, Job

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the latency's buckets, in seconds."""


class Metrics:
    """Counts what was done. Several threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._refused: Counter[int] = Counter()
        self._prompt_tokens: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._images: Counter[str] = Counter()
        self._steps: Counter[str] = Counter()
        self._recomputed: Counter[str] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: Counter[str] = Counter()

    def count_job(self, job: Job, event: Event | None, seconds: float) -> None:
        """Count a job that ended with `event` after some time; None for a cancelled one."""
        size = "" if job.submodel is None else job.submodel.name
        with self._lock:
            self._requests[size, _outcome(event)] += 1
            if isinstance(event, Finished):
                self._tokens[size] += event.tokens
            if isinstance(event, Classified):
                self._images[size] += 1
            if isinstance(event, Finished | Classified):
                counts = self._buckets.setdefault(size, [0] * (len(_BUCKETS) + 1))
                counts[bisect_left(_BUCKETS, seconds)] += 1
                self._seconds[size] += seconds  # type: ignore[assignment]

    def count_prompt(self, size: str, tokens: int) -> None:
        """Count the tokens of a prompt."""
        with self._lock:
            self._prompt_tokens[size] += tokens

    def count_step(self, size: str) -> None:
        """Count a pass that a batch of one size ran."""
        with self._lock:
            self._steps[size] += 1

    def count_recomputed(self, size: str) -> None:
        """Count a token that was too close to another one, and was computed by itself."""
        with self._lock:
            self._recomputed[size] += 1

    def count_refused(self, status: int) -> None:
        """Count a request that was refused with an HTTP status."""
        with self._lock:
            self._refused[status] += 1

    def text(self, gauges: Mapping[str, float]) -> str:
        """Return all counters, and gauges by name, in Prometheus's text format."""
        with self._lock:
            return "".join(f"{line}\n" for line in self._lines(gauges))

    def _lines(self, gauges: Mapping[str, float]) -> Iterator[str]:
        for name, value in gauges.items():
            yield f"# TYPE sortednet_{name} gauge"
            yield f"sortednet_{name} {value:g}"
        yield "# TYPE sortednet_requests_total counter"
        for (size, outcome), count in sorted(self._requests.items()):
            yield f'sortednet_requests_total{{size="{size}",outcome="{outcome}"}} {count}'
        yield "# TYPE sortednet_refused_total counter"
        for status, count in sorted(self._refused.items()):
            yield f'sortednet_refused_total{{status="{status}"}} {count}'
        for name, counter in (
            ("prompt_tokens", self._prompt_tokens),
            ("generated_tokens", self._tokens),
            ("images", self._images),
            ("batch_steps", self._steps),
            ("recomputed_tokens", self._recomputed),
        ):
            yield f"# TYPE sortednet_{name}_total counter"
            for size, count in sorted(counter.items()):
                yield f'sortednet_{name}_total{{size="{size}"}} {count}'
        yield "# TYPE sortednet_request_seconds histogram"
        for size, counts in sorted(self._buckets.items()):
            total = 0
            for bound, count in zip((*map(str, _BUCKETS), "+Inf"), counts, strict=True):
                total += count
                yield f'sortednet_request_seconds_bucket{{size="{size}",le="{bound}"}} {total}'
            yield f'sortednet_request_seconds_sum{{size="{size}"}} {self._seconds[size]:.6f}'
            yield f'sortednet_request_seconds_count{{size="{size}"}} {total}'


def _outcome(event: Event | None) -> str:
    if event is None:
        return "cancelled"
    return event.cause if isinstance(event, Failed) else "ok"
