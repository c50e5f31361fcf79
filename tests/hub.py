"""A server in the place of the Hugging Face Hub, with what its client asks for."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

Files = dict[str, bytes]


@dataclass
class Repository:
    """A repository: its commits by their ids, and its branches."""

    private: bool
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def add(self, branch: str, files: Files, message: str) -> str:
        commit = hashlib.sha1(f"{branch} {len(self.commits)}".encode()).hexdigest()
        self.commits[commit], self.branches[branch] = files, commit
        self.messages.append(message)
        return commit

    def files(self, branch: str = "main") -> Files:
        return self.commits[self.branches[branch]]


class Hub:
    """The server, which answers in a thread of its own.

    Attributes:
        token: the token that it knows.
        repositories: by name.
        large: by SHA-256, what was uploaded apart from the commits.
        requests: the method and the path of every request.
        refusals: by a part of a path, the status and the text to answer with.
    """

    def __init__(self, token: str) -> None:
        self.token = token
        self.repositories: dict[str, Repository] = {}
        self.large: Files = {}
        self.requests: list[str] = []
        self.refusals: dict[str, tuple[int, str]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
        self._server.hub = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - the names that its base class calls

    def _answer(self) -> None:
        self.hub: Hub = self.server.hub  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        self.content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"{self.command} {path}")
        for part, (status, text) in self.hub.refusals.items():
            if part in path:
                self._error(status, text)
                return
        if self.command == "PUT":
            self.hub.large[path.rpartition("/")[2]] = self.content
            self._send(b"")
        elif path == "/api/validate-yaml":  # for everybody
            self._validate()
        elif self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._error(401, "Invalid credentials in Authorization header")
        elif path.startswith("/api/"):
            self._api(path.removeprefix("/api/").split("/"))
        elif path.endswith("/info/lfs/objects/batch"):
            self._batch()
        else:
            self._resolve(path.split("/")[1:])

    def _validate(self) -> None:
        _, head, _ = json.loads(self.content)["content"].split("---\n", 2)
        wrong = not isinstance(yaml.safe_load(head), dict)
        errors = [{"message": "no table"}] if wrong else []
        self._json({"errors": errors, "warnings": []}, 400 if wrong else 200)

    def _api(self, parts: list[str]) -> None:
        if parts == ["repos", "create"]:
            self._create(json.loads(self.content))
        elif (repository := self.hub.repositories.get("/".join(parts[1:3]))) is None:
            self._error(404, "Repository not found", "RepoNotFound")
        else:
            what, revision = (
                (*parts[3:5], "revision", "main")[:2] if parts[3:] else ("revision", "main")
            )
            self._repository("/".join(parts[1:3]), repository, what, revision)

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.hub.repositories:
            self._error(409, "You already created this model repo")
            return
        repository = self.hub.repositories[name] = Repository(
            wanted.get("visibility") == "private" or bool(wanted.get("private"))
        )
        repository.add("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        self._json({"url": f"{self.hub.url}/{name}"})

    def _repository(self, name: str, repository: Repository, what: str, revision: str) -> None:
        if what == "branch":
            repository.branches.setdefault(revision, repository.branches["main"])
            self._json({})
            return
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            self._error(404, "Invalid rev id", "RevisionNotFound")
        elif what == "preupload":
            files = json.loads(self.content)["files"]
            self._json({"files": [_mode(file["path"]) for file in files]})
        elif what == "commit":
            self._commit(name, repository, revision)
        elif what == "tree":
            files = repository.commits[commit]
            self._json([_entry(path, content) for path, content in files.items()])
        else:
            siblings = [{"rfilename": path} for path in repository.commits[commit]]
            facts = {"id": name, "sha": commit, "private": repository.private}
            self._json({**facts, "siblings": siblings})

    def _commit(self, name: str, repository: Repository, branch: str) -> None:
        lines = [json.loads(line) for line in self.content.splitlines()]
        header = lines[0]["value"]
        if header.get("parentCommit", repository.branches[branch]) != repository.branches[branch]:
            self._error(412, "A commit has happened since")
            return
        files = dict(repository.files(branch))
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "deletedFile":
                del files[value["path"]]
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            else:
                files[value["path"]] = base64.b64decode(value["content"])
        commit = repository.add(branch, files, header["summary"])
        url = f"{self.hub.url}/{name}/commit/{commit}"
        self._json({"commitUrl": url, "commitOid": commit})

    def _batch(self) -> None:
        objects = json.loads(self.content)["objects"]
        for each in objects:
            if each["oid"] not in self.hub.large:
                each["actions"] = {"upload": {"href": f"{self.hub.url}/large/{each['oid']}"}}
        self._json({"transfer": "basic", "objects": objects})

    def _resolve(self, parts: list[str]) -> None:
        """Answer with a file: `OWNER/NAME/resolve/REVISION/PATH`."""
        repository = self.hub.repositories.get("/".join(parts[:2]))
        if repository is None:
            self._error(404, "Repository not found", "RepoNotFound")
            return
        commit = repository.branches.get(parts[3], parts[3])
        content = repository.commits.get(commit, {}).get("/".join(parts[4:]))
        if content is None:
            self._error(404, "Entry not found", "EntryNotFound")
            return
        digest = hashlib.sha256(content).hexdigest()
        self._send(content, headers={"ETag": f'"{digest}"', "X-Repo-Commit": commit})

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json"})

    def _error(self, status: int, text: str, code: str = "") -> None:
        headers = {"X-Error-Message": text, **({"X-Error-Code": code} if code else {})}
        errors = {"error": text, "errors": [{"message": text}]}
        self._send(json.dumps(errors).encode(), status, headers)

    def _send(
        self, content: bytes, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _mode(path: str) -> dict[str, Any]:
    large = path.endswith(".safetensors")
    return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}


def _entry(path: str, content: bytes) -> dict[str, Any]:
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": oid}
