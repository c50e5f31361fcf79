"""Sending of an artifact to the Hugging Face Hub, in one commit. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sortednet_cli.engine.requests import PushRequest
from sortednet_cli.errors import (
    RequestError,
    SortednetError,
    WorkError,
    as_word,
    reason_of,
    shortened,
)
from sortednet_cli.logs import logger
from sortednet_cli.space import SubModel
from sortednet_cli.storage.artifact import MANIFEST, ArtifactFolder
from sortednet_cli.storage.files import read_json
from sortednet_cli.storage.hub import is_hub_name
from sortednet_cli.storage.inspection import inspect

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

_CARD = "README.md"
_OF_A_MODEL = (".safetensors", ".bin", ".pt", ".pth", ".onnx", ".gguf", "config.json")
"""How the names of files end that another model in the repository would consist of."""

_ADVICE = {
    401: "log in again with: hf auth login",
    403: "use a token that may write to this repository",
    409: "the repository has changed meanwhile: push again",
    412: "the repository has changed meanwhile: push again",
}


@dataclass(frozen=True)
class Push:
    """What is sent, or was.

    Attributes:
        repository: `user/name` on the hub.
        files: the bytes of each file, by its name.
        metadata: the metadata in the model card.
        message: the message of the commit.
        url: the page of the repository; None if nothing was sent.
        commit: the commit's id; None if nothing was sent.
        removed: files of an earlier artifact that the commit removed.
    """

    repository: str
    files: Mapping[str, int]
    metadata: Mapping[str, Any]
    message: str
    url: str | None = None
    commit: str | None = None
    removed: tuple[str, ...] = ()


def check_push(request: PushRequest) -> None:
    """Check what can be told before any file of the artifact is read.

    Raises:
        RequestError: no repository can have the name, the path is no artifact, the hub's client is
            told to stay offline, or there is no token.
    """
    if not is_hub_name(request.repository):
        raise RequestError(
            f"{request.repository!r} is no name of a repository: write it as user/name, with"
            " letters, digits, '-', '_' and '.'"
        )
    path = request.path
    if (path / "run.json").is_file() and not ArtifactFolder.is_one(path):
        raise RequestError(
            f"{path} is a run, of which one sub-model can be pushed: cut it out with:"
            f" sortednet extract {as_word(path)}"
        )
    ArtifactFolder.open(path)
    if request.dry_run:
        return

    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise RequestError("HF_HUB_OFFLINE is set: unset it to push, or add --dry-run")
    if get_token() is None:
        raise RequestError("no token for the hub: log in with `hf auth login`, or set HF_TOKEN")


def push(request: PushRequest) -> Push:
    """Verify an artifact and send it; with `dry_run`, say what would be sent.

    Raises:
        RequestError: the artifact is damaged, or the repository holds another model, or is public
            although a private one was asked for.
        WorkError: the hub cannot be reached or refuses. No commit was made.
    """
    prepared = _prepare(request)
    return prepared if request.dry_run else _send(request, prepared)


def _prepare(request: PushRequest) -> Push:
    """Compare the artifact's files with their checksums, and list what is to be sent.

    The model card may have been edited. Files without a checksum are sent too, unless they are
    hidden or links.
    """
    path, folder = request.path, ArtifactFolder.open(request.path)
    inspection = inspect(path, edited=[_CARD])
    names = [file.relative_to(path).as_posix() for file in inspection.files]
    others = [name for name in inspection.unexpected if name != _CARD]
    added = [name for name in others if not _is_private(path, name)]
    if left := [name for name in others if name not in added]:
        logger.warning("hidden files and links are not sent: %s", shortened(left))
    if added:
        logger.info("files without a checksum are sent too: %s", shortened(added))
    if (path / _CARD).is_file():
        added.append(_CARD)
    manifest = folder.manifest()
    default = f"{manifest.run} {SubModel.of(manifest.submodel.axes)}"
    return Push(
        request.repository,
        {name: (path / name).stat().st_size for name in sorted([*names, *added])},
        _metadata(path / _CARD),
        request.message or default,
    )


def _is_private(folder: Path, name: str) -> bool:
    parts = Path(name).parts
    links = [folder.joinpath(*parts[: i + 1]).is_symlink() for i in range(len(parts))]
    return any(links) or any(part.startswith(".") for part in parts)


def _metadata(card: Path) -> dict[str, Any]:
    """Read the metadata of a model card; RequestError if they are not YAML."""
    from huggingface_hub import metadata_load

    if not card.is_file():
        logger.warning("there is no %s: the hub will show no model card", card)
        return {}
    try:
        data = metadata_load(card)
    except Exception as error:  # YAML has errors of its own
        raise RequestError(f"{card}: its metadata cannot be read: {reason_of(error)}") from error
    if not data:
        logger.warning("%s has no metadata: extract again to have them written", card)
    elif "license" not in data:
        logger.info("%s states no licence: add a line `license: NAME` to its metadata", card)
    return {str(key): _as_json(value) for key, value in (data or {}).items()}


def _as_json(value: Any) -> Any:
    """Turn what YAML has and JSON lacks, such as dates, into text."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_as_json(each) for each in value]
    is_known = isinstance(value, int | str | None)
    return value if is_known or (isinstance(value, float) and isfinite(value)) else str(value)


def _send(request: PushRequest, prepared: Push) -> Push:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not request.bars:
        disable_progress_bars()
    api, name, revision = HfApi(library_name="sortednet-cli"), request.repository, request.revision
    with _refusals(name):
        found = _find(api, name)
        if found is not None and request.private and not found.private:
            raise RequestError(
                f"{name} exists and is public: make it private in its settings, or leave out"
                " --private"
            )
        _check_card(request.path / _CARD)
        if found is None:
            api.create_repo(name, private=request.private)
    made = found is None
    with _refusals(name, "; the repository was created, and is empty" if made else ""):
        if revision is not None and (made or (found := _find(api, name, revision)) is None):
            api.create_branch(name, branch=revision, exist_ok=True)
            found = _find(api, name, revision)
        stale = [] if found is None else _stale(name, found, prepared)
        commit = api.create_commit(
            name,
            [
                *(CommitOperationAdd(file, request.path / file) for file in prepared.files),
                *(CommitOperationDelete(file) for file in stale),
            ],
            commit_message=prepared.message,
            revision=revision,
            parent_commit=None if found is None else found.sha,
        )
    url = f"{api.endpoint}/{name}" + ("" if revision is None else f"/tree/{revision}")
    return replace(prepared, url=url, commit=commit.oid, removed=tuple(stale))


def _check_card(card: Path) -> None:
    """RequestError if the hub refuses the metadata of a model card, before anything is created."""
    from huggingface_hub import ModelCard

    try:
        if card.is_file():
            ModelCard.load(card).validate()
    except ValueError as error:
        reason = str(error)
        with suppress(ValueError, LookupError, TypeError):  # the hub's answer in JSON
            reason = "; ".join(each["message"] for each in json.loads(reason)["errors"])
        raise RequestError(f"{card}: the hub refuses its metadata: {reason}") from error


def _find(api: HfApi, name: str, revision: str | None = None) -> ModelInfo | None:
    """Ask for a repository and the files of a branch; None if there is none."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        return api.model_info(name, revision=revision)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        return None


def _stale(name: str, found: ModelInfo, prepared: Push) -> list[str]:
    """List the files of an earlier artifact that the new one does not have.

    Loaders would mix them with the new ones: they prefer a single weight file to shards.

    Raises:
        RequestError: the repository holds a model that is no artifact.
    """
    from huggingface_hub import hf_hub_download

    there = {file.rfilename for file in found.siblings or ()}
    if MANIFEST in there:
        earlier = read_json(Path(hf_hub_download(name, MANIFEST, revision=found.sha)))
        return sorted(there.intersection(earlier.get("files") or ()) - prepared.files.keys())
    if of_another := sorted(file for file in there if file.endswith(_OF_A_MODEL)):
        raise RequestError(
            f"{name} holds another model ({shortened(of_another)}): remove its files first, or"
            " choose another name"
        )
    return []


@contextmanager
def _refusals(name: str, consequence: str = "") -> Iterator[None]:
    """Turn the errors of the hub's client into a WorkError of one line.

    Args:
        consequence: what is left behind on the hub, for the message.
    """
    try:
        yield
    except SortednetError:
        raise
    except Exception as error:
        # The hub's client raises whatever its transport does.
        status = getattr(getattr(error, "response", None), "status_code", None)
        said = getattr(error, "server_message", None) or reason_of(error)
        advice = f"; {_ADVICE[status]}" if status in _ADVICE else ""
        told = f"{status} {said}" if status else said
        raise WorkError(f"cannot push to {name}: {told}{advice}{consequence}") from error
