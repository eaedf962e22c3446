"""A GGUF given to a running Ollama server, by its HTTP API.

https://docs.ollama.com/api: every file is sent as a blob named by its SHA-256, then one request makes a model of the
blobs. The requests go through Ollama's own client; only the body of an upload is ours, so that it can be watched.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from converter.errors import CheckpointError, OutputError, UsageError
from converter.gguf.reader import read_gguf_header
from converter.ollama.syntax import Modelfile, license_text
from converter.sources.source_file import quoted, unreadable

if TYPE_CHECKING:
    import httpx
    import ollama

#: The first version that makes models of files named by digest, and the first that joins those of a split GGUF.
FILES_SINCE, PARTS_SINCE = (0, 5, 5), (0, 30, 0)
CHUNK_BYTES = 1 << 20
SECONDS = 10.0
"""How long a server may take to accept a connection or to say its version."""

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
_NAMESPACE = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"
_HOST = r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}"
_NAME = re.compile(rf"(?:(?:{_HOST}/)?{_NAMESPACE}/)?{_PART}(?::{_PART})?", re.ASCII)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, and how many bytes of how many are done; 0 of 0 where that is not counted."""


@dataclass(frozen=True)
class Posted:
    """What the server has now.

    Attributes:
        name: of the model.
        host: URL of the server.
        version: of the server.
        sent: bytes that were sent.
        known: bytes that the server had already.
    """

    name: str
    host: str
    version: str
    sent: int
    known: int


def post(
    name: str,
    description: Modelfile,
    files: list[Path],
    *,
    adapter: Path | None = None,
    host: str | None = None,
    progress: Progress | None = None,
) -> Posted:
    """Make a model of the server's.

    Args:
        name: ``[[HOST/]NAMESPACE/]MODEL[:TAG]``.
        description: what is said of it; its own FROM and ADAPTER are not looked at.
        files: the GGUF, or all its parts.
        adapter: a GGUF with an adapter.
        host: URL of the server; None takes ``OLLAMA_HOST``, or this machine.
        progress: see :data:`Progress`.

    Raises:
        UsageError: the name or the host cannot be one.
        CheckpointError: a file is no GGUF, cannot be read or changes.
        OutputError: there is no server, it is too old, its disk is full, or it refuses; one line.
    """
    check_name(name)
    _check_gguf(files[0], "model")
    if adapter is not None:
        _check_gguf(adapter, "adapter")
    client = _client(host)
    with client:
        server = _Server(client, progress or (lambda what, done, total: None))
        version = server.check_version(parts=len(files))
        blobs = {file: server.give(file) for file in files}
        extra = {adapter: server.give(adapter)} if adapter else {}
        server.create(name, description, blobs, extra)
        return Posted(name, server.host, version, server.sent, server.known)


def check_name(name: str) -> None:
    """Refuse what Ollama does not take as a model's name (``types/model/name.go``)."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a model's name in Ollama: [NAMESPACE/]MODEL[:TAG] expected, each of letters, digits, "
            "'-', '_' and '.'"
        )


def _check_gguf(file: Path, expected: str) -> None:
    found = read_gguf_header(file).value("general.type", "model")
    if found != expected:
        raise CheckpointError(f"{file}: holds {quoted(found)}, {expected!r} expected in its general.type")


def _client(host: str | None) -> ollama.Client:
    import httpx
    import ollama

    try:
        return ollama.Client(host, timeout=httpx.Timeout(None, connect=SECONDS))
    except (ValueError, httpx.InvalidURL) as error:
        raise UsageError(f"--host or OLLAMA_HOST: {error}; expected e.g. http://127.0.0.1:11434") from None


class _Server:
    """A server being spoken to; it counts what it is given."""

    def __init__(self, client: ollama.Client, progress: Progress) -> None:
        self._client = client
        self._http: httpx.Client = client._client
        self._progress = progress
        self.host = str(self._http.base_url).rstrip("/")
        self.sent = self.known = 0

    def check_version(self, *, parts: int) -> str:
        response = self._ask("GET", "/api/version", timeout=SECONDS)
        if response.history:
            # An upload is read once, so it cannot be sent again to where a redirection leads.
            where = str(response.url).removesuffix("/api/version")
            raise OutputError(f"{self.host}: sends its callers on to {where}; name that one with --host")
        try:
            numbers = tuple(map(int, re.findall(r"\d+", response.json()["version"])[:3]))
        except (ValueError, KeyError, TypeError):
            numbers = ()
        if response.status_code != 200 or not numbers:
            raise OutputError(
                f"{self.host}: does not answer as an Ollama server does ({response.status_code} to /api/version); "
                "check --host or OLLAMA_HOST"
            )
        version = ".".join(map(str, numbers))
        # A server built from source calls itself 0.0.0.
        for since, what in ((FILES_SINCE, "GGUF files"), (PARTS_SINCE if parts > 1 else FILES_SINCE, "a split GGUF")):
            if any(numbers) and numbers < since:
                advice = "; or join its parts with `convert merge`" if what == "a split GGUF" else ""
                raise OutputError(
                    f"{self.host}: is Ollama {version}, which makes no models of {what}: "
                    f"{'.'.join(map(str, since))} or later expected; update it{advice}"
                )
        return version

    def give(self, file: Path) -> str:
        """Send a file unless the server has it; returns its digest."""
        size = file.stat().st_size
        digest = f"sha256:{self._hash(file, size)}"
        response = self._ask("HEAD", f"/api/blobs/{digest}")
        if response.status_code == 200:
            self.known += size
            return digest
        if response.status_code != 404:
            self._refused(response, f"to say whether it has {file.name}")
        response = self._ask(
            "POST", f"/api/blobs/{digest}", content=self._body(file, size), headers={"Content-Length": str(size)}
        )
        if not response.is_success:
            if "digest mismatch" in response.text:
                raise CheckpointError(f"{file}: changed while it was being sent; leave it alone and run again")
            self._refused(response, f"the upload of {file.name}")
        self.sent += size
        return digest

    def create(self, name: str, description: Modelfile, files: dict[Path, str], adapter: dict[Path, str]) -> None:
        import httpx
        import ollama

        licenses = [license_text(text) for text in description.licenses]
        try:
            steps = self._client.create(
                name,
                files={file.name: digest for file, digest in files.items()},
                adapters={file.name: digest for file, digest in adapter.items()} or None,
                template=description.template or None,
                system=description.system or None,
                license=licenses or None,
                parameters=description.parameters or None,
                messages=[{"role": role, "content": content} for role, content in description.messages] or None,
                stream=True,
            )
            status = None
            for step in steps:
                status = step.status or status
                self._progress(status or "", step.completed or 0, step.total or 0)
        except ollama.ResponseError as error:
            self._fail(error.error, f"the making of {name}")
        except (httpx.RequestError, ValueError) as error:
            raise OutputError(f"{self.host}: the connection was lost while {name} was made: {error}") from None
        if status != "success":
            raise OutputError(f"{self.host}: stopped making {name} after {status!r}, 'success' expected; see its log")

    def _hash(self, file: Path, size: int) -> str:
        digest = hashlib.sha256()
        for chunk in self._watched(file, size, "reading"):
            digest.update(chunk)
        return digest.hexdigest()

    def _body(self, file: Path, size: int) -> Iterator[bytes]:
        """Exactly the bytes announced: more would be part of no request, fewer would leave the server waiting."""
        left = size
        for chunk in self._watched(file, size, "sending"):
            if len(chunk) > left:
                break
            left -= len(chunk)
            yield chunk
        if left:
            raise CheckpointError(f"{file}: changed while it was being sent; leave it alone and run again")

    def _watched(self, file: Path, size: int, what: str) -> Iterator[bytes]:
        done = 0
        try:
            with file.open("rb") as opened:
                while chunk := opened.read(CHUNK_BYTES):
                    yield chunk
                    done += len(chunk)
                    self._progress(f"{what} {file.name}", done, size)
        except OSError as error:
            raise unreadable(file, error) from None

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        import httpx

        try:
            return self._http.request(method, path, **options)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise OutputError(
                f"{self.host}: no Ollama server answers; start it with `ollama serve`, or name another with --host"
            ) from None
        except httpx.RequestError as error:
            reason = str(error) or type(error).__name__
            raise OutputError(
                f"{self.host}: the connection was lost ({reason}); run the same command again, what the server has "
                "is not sent twice"
            ) from None

    def _refused(self, response: httpx.Response, what: str) -> NoReturn:
        try:
            text = response.json()["error"]
        except (ValueError, KeyError, TypeError):
            text = response.text or response.reason_phrase
        self._fail(f"{text} ({response.status_code})", what)

    def _fail(self, reason: str, what: str) -> NoReturn:
        line = " ".join("".join(letter if letter.isprintable() else " " for letter in reason).split())[:300]
        if "no space left" in line or "not enough space" in line:
            raise OutputError(
                f"{self.host}: its disk is full: {line}; free space where it keeps models (OLLAMA_MODELS) and run again"
            )
        raise OutputError(f"{self.host}: refused {what}: {line}")
