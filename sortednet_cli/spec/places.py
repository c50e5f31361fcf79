"""Where data lie that a spec or a command line names: what can be told before they are opened."""

from __future__ import annotations

from pathlib import Path

from sortednet_cli.errors import RequestError, reason_of
from sortednet_cli.spec.data import DataSpec, data_kind

IMAGES = "expected train/CLASS/ and test/CLASS/ folders of images, or CLASS/ folders alone"
TEXTS = (
    "expected a file of texts, a folder with train.*, dev.* and test.*, or a folder of plain texts"
)

_BUILT_IN = {
    "digits": "the digits are built in and take no path; for images of your own set data.source ="
    ' "image-folder"',
    "pydoc": "the topics of Python's help are built in and take no path; for texts of your own set"
    ' data.source = "text"',
}
_NEEDED = {
    "image-folder": f"{IMAGES}, or a tar of them",
    "text": TEXTS,
    "hub": "a data set's name",
}


def find_data(spec: DataSpec) -> Path | None:
    """The file or folder of a spec's data; None for data that come with a package or a download.

    Raises:
        RequestError: the source takes no path, or needs one, or nothing is there.
    """
    if spec.path is None:
        if spec.source in _NEEDED:
            needed = _NEEDED[spec.source]
            raise RequestError(f'data.source = "{spec.source}" needs --data PATH: {needed}')
        return None
    if spec.source in _BUILT_IN:
        raise RequestError(f"data.path: {_BUILT_IN[spec.source]}")
    if spec.source == "hub":
        return None
    path = data_path(spec.path)
    if not path.exists():
        expected = TEXTS if data_kind(spec) == "text" else f"{IMAGES}, or a tar of them"
        raise RequestError(f"data.path: {path} does not exist: {expected}")
    return path


def data_path(text: str) -> Path:
    """The whole path of data; RequestError for one that no file can have."""
    try:
        path = Path(text).expanduser().resolve()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or reason_of(error)
        raise RequestError(f"data.path: {text!r} cannot be opened: {reason}") from error
    return path
