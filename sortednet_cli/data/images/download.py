"""Downloads of published data sets, which torchvision makes."""

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
        name: of the data source.
        torchvision_name: of its class in `torchvision.datasets`.
        copy: what the user may pass in place of a download.

    Raises:
        WorkError: that fails; says what else to pass.
    """
    from torchvision import datasets

    logger.info("downloading %s into %s", name, folder)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    try:
        # Standard output belongs to data; torchvision may talk on it.
        with contextlib.redirect_stdout(sys.stderr):
            getattr(datasets, torchvision_name)(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        raise WorkError(
            f"{name} could not be downloaded: pass --data PATH with a folder that holds {copy}"
            " or train/CLASS/ and test/CLASS/ folders of images, or with a tar of such folders"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
