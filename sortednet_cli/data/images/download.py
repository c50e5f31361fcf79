"""Download published data sets with torchvision."""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path

from sortednet_cli.errors import WorkError, reason_of
from sortednet_cli.logs import logger

_TIMEOUT_SECONDS = 30.0


def download(name: str, torchvision_name: str, folder: Path, copy: str) -> None:
    """Download a data set into a folder.

    Args:
        name: name of the data source.
        torchvision_name: name of its class in `torchvision.datasets`.
        copy: description of the files that the user may pass instead.

    Raises:
        WorkError: the download failed; the message says what to pass instead.
    """
    from torchvision import datasets

    logger.info("downloading %s into %s", name, folder)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    try:
        # torchvision may print to stdout, which is reserved for data.
        with contextlib.redirect_stdout(sys.stderr):
            getattr(datasets, torchvision_name)(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        cause = getattr(error, "reason", None) or error  # urllib's errors hold the system's
        raise WorkError(
            f"{name} could not be downloaded ({reason_of(cause)}): pass --data PATH, a folder that"
            f" holds {copy} or folders train/CLASS/ and test/CLASS/ of images"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
