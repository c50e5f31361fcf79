"""Models on the hub: what is said where one cannot be had."""

from __future__ import annotations

import huggingface_hub
import pytest

from sortednet_cli.errors import RequestError, SortednetError, WorkError
from sortednet_cli.storage.hub import download


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (OSError(), WorkError, "could not be downloaded from the hub: OSError"),
        (ValueError("no JSON"), WorkError, "could not be downloaded from the hub: no JSON"),
        (None, RequestError, "'a/b/c' is neither a folder nor a hub name"),
    ],
)
def test_what_cannot_be_downloaded(
    error: Exception | None,
    kind: type[SortednetError],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        assert error is not None
        raise error

    if error is not None:
        monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(kind, match=said):
        download("a/b/c", "'a/b/c'")
