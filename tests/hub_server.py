"""A small Hugging Face Hub on loopback, spoken to by the real client, with a storage network at another origin.

It serves what the client asks for: model information, files by commit with their hashes, redirects of large files to
signed addresses, byte ranges, and uploads through pre-upload, Git LFS and commit. It refuses as the Hub does, can be
told to fail, and keeps every request for the tests to look at.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

LARGE = re.compile(r".*\.(safetensors|bin|pth|gguf|model)")


@dataclass
class Repository:
    """Files at one commit, known as ``main``."""

    files: dict[str, bytes] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    commit: str = ""

    def renew(self) -> None:
        digest = hashlib.sha1(usedforsecurity=False)
        for name, content in sorted(self.files.items()):
            digest.update(name.encode() + hashlib.sha256(content).digest())
        self.commit = digest.hexdigest()


@dataclass(frozen=True)
class Request:
    """``origin`` is ``hub`` or ``storage``; names of headers are in lower case."""

    origin: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Faults:
    """What goes wrong, and how often.

    Attributes:
        drop_after: bytes of a file's body after which the connection breaks, once for each number.
        limited: answers 429 left to give.
        retry_after: what they say.
        down: answers 503 left to give.
        expired: answers 403 left to give for signed addresses.
        dies_after: answers that the storage gives before it breaks every connection; None if it doesn't.
        no_ranges: the storage sends whole files whatever is asked for.
    """

    drop_after: dict[str, list[int]] = field(default_factory=dict)
    limited: int = 0
    retry_after: str = "0"
    down: int = 0
    expired: int = 0
    dies_after: int | None = None
    no_ranges: bool = False


class HubServer:
    """Both servers, each in a thread of its own. ``tokens`` maps a token to its user, with the role it has."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.tokens = {"hf_writer": ("ada", "write"), "hf_reader": ("ada", "read")}
        self.organizations = {"ada": {"lab": "write", "museum": "read"}}
        self.requests: list[Request] = []
        self.faults = Faults()
        self.lock = threading.Lock()
        self.uploaded: dict[str, bytes] = {}
        self._servers = [_Server(self, "hub"), _Server(self, "storage")]
        self.endpoint, self.storage = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def add(self, name: str, source: Path | Mapping[str, bytes], **settings: Any) -> Repository:
        """A repository of these files, or of all in a directory."""
        if isinstance(source, Path):
            paths = [path for path in source.rglob("*") if path.is_file()]
            source = {path.relative_to(source).as_posix(): path.read_bytes() for path in paths}
        repository = self.repositories[name] = Repository(dict(source), **settings)
        repository.renew()
        return repository

    def environment(self, cache: Path, token: str = "") -> dict[str, str]:
        """What a process needs in its environment to take this for the Hub."""
        found = {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
        return found | ({"HF_TOKEN": token} if token else {})

    def stand_in(self, patch: pytest.MonkeyPatch, cache: Path) -> None:
        """Let this process take it for the Hub: huggingface_hub has read its environment when it was imported."""
        patch.setattr(constants, "ENDPOINT", self.endpoint)
        patch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", self.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)

    def asked(self, origin: str, method: str, part: str = "") -> list[Request]:
        """Requests so far whose path contains this."""
        return [
            request
            for request in self.requests
            if request.origin == origin and request.method == method and part in request.path
        ]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # The workers of a conversion ask for several chunks at once.
    request_queue_size = 64

    def __init__(self, hub: HubServer, origin: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub, self.origin = hub, origin

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is none of our business."""


class _Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        self.status, self.headers = status, {"X-Error-Code": code, "X-Error-Message": message}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET

    def _serve(self) -> None:
        hub, faults = self.server.hub, self.server.hub.faults
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = self._chunked()
        names = {name.lower(): value for name, value in self.headers.items()}
        with hub.lock:
            hub.requests.append(Request(self.server.origin, self.command, self.path, names, body))
            limited, down = faults.limited > 0, faults.down > 0 and not faults.limited
            faults.limited -= limited
            faults.down -= down
        path = unquote(urlsplit(self.path).path)
        try:
            if limited:
                self._answer(429, b"", {"Retry-After": faults.retry_after})
            elif down:
                self._answer(503, b"")
            elif self.server.origin == "storage":
                self._storage(path, body)
            else:
                self._hub(path, body)
        except _Refused as refused:
            self._answer(refused.status, b"", refused.headers)

    def _chunked(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None, drop: int = -1) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if drop >= 0:
            self.wfile.write(body[:drop])
            self.close_connection = True
            return
        self.wfile.write(body)

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _user(self) -> tuple[str, str] | None:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if given and given not in self.server.hub.tokens:
            raise _Refused(401, "", "Invalid credentials in Authorization header")
        return self.server.hub.tokens.get(given)

    def _repository(self, name: str, revision: str = "main") -> Repository:
        repository, user = self.server.hub.repositories.get(name), self._user()
        if repository is None or (repository.private and not user):
            raise _Refused(404 if user else 401, "RepoNotFound", "Repository not found")
        if revision not in ("main", repository.commit):
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository

    def _hub(self, path: str, body: bytes) -> None:
        for method, pattern, action in _ROUTES:
            if self.command in method and (match := re.fullmatch(pattern, path)):
                action(self, body, **match.groupdict())
                return
        raise _Refused(404, "", f"nothing at {path}")

    def _info(self, _: bytes, repo: str, revision: str | None) -> None:
        repository = self._repository(repo, revision or "main")
        siblings = []
        for name, content in sorted(repository.files.items()):
            entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": _git_hash(content)}
            if LARGE.fullmatch(name):
                entry["lfs"] = {"sha256": _sha256(content), "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        self._json(
            {"id": repo, "sha": repository.commit, "siblings": siblings, "private": repository.private, "tags": []}
        )

    def _resolve(self, _: bytes, repo: str, revision: str, name: str) -> None:
        repository = self._repository(repo, revision)
        if repository.gated:
            status = 403 if self._user() else 401
            raise _Refused(status, "GatedRepo", f"Access to model {repo} is restricted")
        content = repository.files.get(name)
        if content is None:
            raise _Refused(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": repository.commit}
        if not LARGE.fullmatch(name):
            self._content(name, content, {**headers, "ETag": f'"{_git_hash(content)}"'})
            return
        linked = {"X-Linked-Etag": f'"{_sha256(content)}"', "X-Linked-Size": str(len(content))}
        location = f"{self.server.hub.storage}/{repo}/{name}?signature={len(self.server.hub.requests)}"
        self._answer(302, b"", {**headers, **linked, "Location": location})

    def _content(self, name: str, content: bytes, headers: Mapping[str, str]) -> None:
        faults = self.server.hub.faults
        status, part, headers = 200, content, {**headers, "Accept-Ranges": "bytes"}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match and not faults.no_ranges:
            first, last = int(match[1]), min(int(match[2] or len(content)), len(content) - 1)
            if first > last:
                self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            status, part = 206, content[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        drops = faults.drop_after.get(name, [])
        drop = drops.pop(0) if drops and self.command == "GET" else -1
        self._answer(status, part, headers, drop)

    def _storage(self, path: str, body: bytes) -> None:
        hub = self.server.hub
        assert "Authorization" not in self.headers, "the token was sent to the storage network"
        if self.command == "PUT":
            hub.uploaded[path.rpartition("/")[2]] = body
            self._answer(200, b"", {"ETag": '"part"'})
            return
        with hub.lock:
            expired = hub.faults.expired > 0
            hub.faults.expired -= expired
            dead = hub.faults.dies_after == 0
            if hub.faults.dies_after:
                hub.faults.dies_after -= 1
        if dead:
            self.close_connection = True
            return
        if expired:
            self._answer(403, b"")
            return
        organization, model, name = path.lstrip("/").split("/", 2)
        content = hub.repositories[f"{organization}/{model}"].files[name]
        self._content(name, content, {"ETag": f'"{_md5(content)}"'})

    def _whoami(self, _: bytes) -> None:
        user = self._user()
        if user is None:
            raise _Refused(401, "", "Invalid username or password.")
        organizations = self.server.hub.organizations.get(user[0], {})
        self._json(
            {
                "type": "user",
                "name": user[0],
                "orgs": [{"name": name, "roleInOrg": role} for name, role in organizations.items()],
                "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": user[1]}},
            }
        )

    def _writer(self) -> None:
        user = self._user()
        if user is None:
            raise _Refused(401, "", "Invalid username or password.")
        if user[1] != "write":
            raise _Refused(403, "", "this token may only read")

    def _create(self, body: bytes) -> None:
        self._writer()
        wanted = json.loads(body)
        user = self._user()
        assert user is not None
        name = f"{wanted.get('organization') or user[0]}/{wanted['name']}"
        hub = self.server.hub
        if name in hub.repositories:
            self._answer(409, json.dumps({"url": f"{hub.endpoint}/{name}"}).encode())
            return
        private = wanted.get("private") or wanted.get("visibility") == "private"
        hub.add(name, {}, private=bool(private))
        self._json({"url": f"{hub.endpoint}/{name}", "name": name, "id": name})

    def _yaml(self, _: bytes) -> None:
        self._json({"errors": [], "warnings": []})

    def _preupload(self, body: bytes, repo: str, revision: str) -> None:
        self._writer()
        self._repository(repo, revision)
        paths = [file["path"] for file in json.loads(body)["files"]]
        modes = {path: "lfs" if LARGE.fullmatch(path) else "regular" for path in paths}
        self._json({"files": [{"path": path, "uploadMode": modes[path], "shouldIgnore": False} for path in paths]})

    def _batch(self, body: bytes, repo: str) -> None:
        self._writer()
        self._repository(repo)
        hub = self.server.hub
        objects = [
            {
                **wanted,
                "actions": {
                    "upload": {"href": f"{hub.storage}/upload/{wanted['oid']}", "header": {}},
                    "verify": {"href": f"{hub.endpoint}/verify/{repo}", "header": {}},
                },
            }
            for wanted in json.loads(body)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _verify(self, body: bytes, repo: str) -> None:
        self._repository(repo)
        claimed = json.loads(body)
        content = self.server.hub.uploaded[claimed["oid"]]
        if len(content) != claimed["size"] or _sha256(content) != claimed["oid"]:
            raise _Refused(422, "", "the upload is not what was announced")
        self._json({})

    def _commit(self, body: bytes, repo: str, revision: str) -> None:
        self._writer()
        repository = self._repository(repo, revision)
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                repository.files[value["path"]] = self.server.hub.uploaded[value["oid"]]
        repository.renew()
        url = f"{self.server.hub.endpoint}/{repo}/commit/{repository.commit}"
        self._json({"commitUrl": url, "commitOid": repository.commit})


_REPO = r"(?P<repo>[^/]+/[^/]+)"
_ROUTES: tuple[tuple[tuple[str, ...], str, Any], ...] = (
    (("GET",), rf"/api/models/{_REPO}(/revision/(?P<revision>.+))?", _Handler._info),
    (("GET",), r"/api/whoami-v2", _Handler._whoami),
    (("POST",), r"/api/repos/create", _Handler._create),
    (("POST",), r"/api/validate-yaml", _Handler._yaml),
    (("POST",), rf"/api/models/{_REPO}/preupload/(?P<revision>.+)", _Handler._preupload),
    (("POST",), rf"/api/models/{_REPO}/commit/(?P<revision>.+)", _Handler._commit),
    (("POST",), rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler._batch),
    (("POST",), rf"/verify/{_REPO}", _Handler._verify),
    (("GET", "HEAD"), rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", _Handler._resolve),
)


@lru_cache(32)
def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@lru_cache(32)
def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@lru_cache(32)
def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
