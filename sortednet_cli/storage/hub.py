"""Models on the Hugging Face Hub: their names, and their copies on this machine."""

from __future__ import annotations

from pathlib import Path

from sortednet_cli.errors import RequestError, WorkError, reason_of
from sortednet_cli.storage.artifact import TOKENIZER_FILES

_WANTED = ["*.json", "*.safetensors", *TOKENIZER_FILES]
_PREFIX, _SNAPSHOTS = "models--", "snapshots"


def download(name: str, what: str, revision: str | None = None) -> Path:
    """Download a model into the hub's cache, unless it is there; return its folder.

    Only JSON, safetensors and tokenizer files are downloaded.

    Args:
        what: the request in words, for messages.
        revision: branch, tag or commit; None for `main`.

    Raises:
        RequestError: no model on the hub can have this name.
        WorkError: the hub cannot be reached, or it has no such model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED))
    except HFValidationError as error:
        raise RequestError(f"{what} is neither a folder nor a hub name: {error}") from error
    except Exception as error:
        # The hub's client raises whatever its transport does.
        raise WorkError(
            f"{what} is not a folder on this machine, and could not be downloaded from the hub:"
            f" {reason_of(error)}"
        ) from error


def is_hub_name(text: str) -> bool:
    """Whether a text is a name on the hub with its owner's: `user/name`."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return text.count("/") == 1


def name_of(folder: Path) -> str | None:
    """The name of a model whose folder is in the hub's cache; None of any other folder.

    The cache names folders `models--OWNER--NAME/snapshots/COMMIT`, and no name has `--` in it.
    """
    parts = folder.absolute().parts
    if len(parts) < 3 or parts[-2] != _SNAPSHOTS or not parts[-3].startswith(_PREFIX):
        return None
    return parts[-3].removeprefix(_PREFIX).replace("--", "/")
