"""Published data sets that torchvision downloads into the user's cache folder."""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path

from sortednet_cli.data.images.arrays import (
    CIFAR_FOLDERS,
    TORCHVISION_CLASSES,
    find_idx,
    read_cifar,
    read_idx,
)
from sortednet_cli.data.images.cache import Decoded, cache_folder
from sortednet_cli.errors import WorkError
from sortednet_cli.logs import logger

_TIMEOUT_SECONDS = 30.0


def read_downloaded(source: str) -> Decoded:
    """Read a source by name, downloading it first if it is not there.

    Raises WorkError if it is not there and cannot be downloaded.
    """
    root = cache_folder() / "torchvision"
    if source in CIFAR_FOLDERS:
        if not (root / CIFAR_FOLDERS[source] / "batches.meta").is_file():
            _download(source, root)
        return read_cifar(root, source)
    if find_idx(root, source) is None:
        _download(source, root)
    return read_idx(find_idx(root, source) or root, source)


def _download(source: str, root: Path) -> None:
    from torchvision import datasets

    logger.info("downloading %s into %s", source, root)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    try:
        # Standard output belongs to data; torchvision may talk on it.
        with contextlib.redirect_stdout(sys.stderr):
            getattr(datasets, TORCHVISION_CLASSES[source])(str(root), download=True)
    except (OSError, RuntimeError) as error:
        own = "" if source in CIFAR_FOLDERS else " its four idx files,"
        raise WorkError(
            f"{source} could not be downloaded: pass --data PATH with a folder that holds{own}"
            " torchvision's copy of it or train/CLASS/ and test/CLASS/ folders of images, or"
            " with a tar of such folders"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
