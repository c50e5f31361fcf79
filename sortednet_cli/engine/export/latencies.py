"""What the latencies of a request come from: torch, a format's runtime, or a device's file.

No torch before a latency is measured.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from sortednet_cli.engine.evaluation.costs import Conditions, Cost
from sortednet_cli.engine.evaluation.costs.device_latency import DeviceLatency
from sortednet_cli.engine.evaluation.costs.latency_ms import LatencyMs
from sortednet_cli.engine.export.formats import Format, find_format, format_names
from sortednet_cli.engine.requests import ExtractRequest, FrontierRequest
from sortednet_cli.errors import RequestError, listed, suggestion
from sortednet_cli.space import SubModel
from sortednet_cli.storage.sources import StoredSource

if TYPE_CHECKING:
    from sortednet_cli.engine.sources.source import Source

_TORCH = "torch"


class RuntimeLatency(LatencyMs):
    """Latency of the exported sub-model in its format's runtime, on the CPU."""

    def __init__(self, file_format: Format) -> None:
        self._format = file_format

    @property
    def axis_label(self) -> str:
        return f"latency in {self._format.runtime}, ms (batch size 1)"

    def values(self, source: Source, submodels: Sequence[SubModel], device: str) -> Iterator[float]:
        from sortednet_cli.engine.export.alone import exported_latency_ms

        network = source.network()
        for submodel in submodels:
            with TemporaryDirectory(prefix="sortednet-") as folder:
                file = Path(folder) / self._format.file
                value = exported_latency_ms(source, network, submodel, self._format, file)
            yield value

    def conditions(self, device: str) -> Conditions:
        import torch

        from sortednet_cli.engine.evaluation.latency import describe

        runtime, file_format = self._format.runtime, self._format.name
        known = describe(torch.device("cpu"), runtime=runtime)
        return {"runtime": runtime, "file_format": file_format, **known}

    def check(self, stored: StoredSource) -> None:
        self._format.check(stored.kind)

    def check_device(self, device: str) -> None:
        if device not in ("auto", "cpu"):
            raise RequestError(
                f"--device {device}: {self._format.runtime} runs on the CPU here; name cpu, or"
                " --runtime torch"
            )


def find_latency(
    request: FrontierRequest | ExtractRequest, file_format: Format | None = None
) -> LatencyMs:
    """Find what a request takes latencies from.

    Args:
        file_format: the format that is written; its runtime is the default.

    Raises:
        RequestError: there is no such runtime, or the file is missing or damaged.
    """
    if request.latencies is not None:
        if request.runtime is not None:
            raise RequestError(
                "give --runtime, to measure latencies here, or --latencies, which were measured on"
                " another device; not both"
            )
        return DeviceLatency(request.latencies)
    found = _format_of(request.runtime, file_format)
    return LatencyMs() if found is None or found.runtime == _TORCH else RuntimeLatency(found)


def require_latency(
    request: FrontierRequest | ExtractRequest, latency: LatencyMs, costs: Collection[Cost]
) -> None:
    """Check that a request takes latencies from where it says.

    Args:
        costs: the costs that the request takes.

    Raises:
        RequestError: it takes none, or they cannot be measured on its device.
    """
    if any(cost is latency for cost in costs):
        latency.check_device(request.device)
        return
    for option, value in (("--runtime", request.runtime), ("--latencies", request.latencies)):
        if value is not None:
            raise RequestError(
                f"{option} {value}: the request takes no latencies; add --max-latency-ms T, or to"
                " `frontier` --cost latency"
            )


def runtimes() -> list[str]:
    """List the values of `--runtime`."""
    return list(dict.fromkeys([_TORCH, *(each.runtime for each in every_format())]))


def _format_of(runtime: str | None, preferred: Format | None) -> Format | None:
    """Return the format whose runtime is named, or by default the preferred one; None for torch.

    Raises:
        RequestError: no format has that runtime.
    """
    if runtime is None or (preferred is not None and preferred.runtime == runtime):
        return preferred
    if runtime == _TORCH:
        return None
    found = next((each for each in every_format() if each.runtime == runtime), None)
    if found is None:
        names = runtimes()
        meant = [each.runtime for each in every_format() if each.name == runtime]
        hint = suggestion(meant[0] if meant else runtime, names)
        raise RequestError(f"--runtime {runtime!r}{hint}: the runtimes are {listed(names)}")
    return found


def every_format() -> Iterator[Format]:
    """Make every further format; one of another package that cannot be made is left out."""
    for name in format_names():
        with suppress(RequestError):
            if (found := find_format(name)) is not None:
                yield found
