"""Download published data sets with torchvision."""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path

from sortednet_cli.errors import WorkError
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
        raise WorkError(
            f"{name} could not be downloaded: pass --data PATH with a folder that holds {copy}"
            " or train/CLASS/ and test/CLASS/ folders of images, or with a tar of such folders"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
