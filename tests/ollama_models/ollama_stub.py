"""A server on loopback that speaks as much of Ollama's HTTP API as making a model takes, and checks it.

As Ollama's: ``GET /api/version``; ``HEAD`` and ``POST /api/blobs/sha256:…``, which keeps a body whose digest is the
one named; ``POST /api/create``, which makes a model of what it keeps and reports in lines of JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FIELDS = {"model", "files", "adapters", "template", "system", "license", "parameters", "messages", "stream"}


@dataclass
class OllamaStub:
    """What the server holds, and how it is to misbehave.

    Attributes:
        version: what it says of itself.
        room: bytes of blobs that fit on its disk.
        hang_up_after: bytes of an upload after which it closes the connection.
        blobs: digest to the first four bytes of what was sent.
        asked: called with each digest that is asked for.
        models: name to the request that made it.
        uploads: digests in the order they were sent.
        steps: what creating reports.
        moved: URL of the server that it names instead of answering.
        broken_off: whether it closes the connection in the middle of reporting.
        forbidden: whether it answers nobody about blobs.
    """

    version: Any = "0.12.3"
    room: int = 1 << 30
    hang_up_after: int = 1 << 30
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: Callable[[str], object] = str
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    uploads: list[str] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(
        default_factory=lambda: [{"status": "parsing GGUF"}, {"status": "writing manifest"}, {"status": "success"}]
    )
    moved: str = ""
    broken_off: bool = False
    forbidden: bool = False
    url: str = ""

    def create(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        assert set(request) <= FIELDS, request.keys()
        assert request["stream"] is True
        assert request["files"], request
        for name, digest in [*request["files"].items(), *request.get("adapters", {}).items()]:
            assert "/" not in name, name
            assert self.blobs[digest] == b"GGUF"
        if self.steps[-1].get("status") == "success":
            self.models[request["model"]] = request
        return self.steps


@contextlib.contextmanager
def serving(stub: OllamaStub) -> Iterator[OllamaStub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"stub": stub}))
    stub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stub: OllamaStub

    def do_GET(self) -> None:
        assert self.path == "/api/version"
        if self.stub.moved:
            self.send_response(307)
            self.send_header("Location", self.stub.moved + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif isinstance(self.stub.version, int):
            self.answer(self.stub.version, {"error": "something else"})
        else:
            self.answer(200, {"version": self.stub.version})

    def do_HEAD(self) -> None:
        assert re.fullmatch(r"/api/blobs/sha256:[0-9a-f]{64}", self.path), self.path
        digest = self.path.rsplit("/", 1)[1]
        self.stub.asked(digest)
        self.send_response(403 if self.stub.forbidden else 200 if digest in self.stub.blobs else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        if self.path == "/api/create":
            request = json.loads(self.rfile.read(length))
            lines = "".join(json.dumps(step) + "\n" for step in self.stub.create(request)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-ndjson")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for begin in range(0, len(lines), 40):  # lines do not end where chunks do
                part = lines[begin : begin + 40]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                if self.stub.broken_off:
                    self.close_connection = True
                    return
            self.wfile.write(b"0\r\n\r\n")
            return
        assert re.fullmatch(r"/api/blobs/sha256:[0-9a-f]{64}", self.path), self.path
        digest = self.path.rsplit("/", 1)[1]
        if length > self.stub.room:
            self.answer(500, {"error": "write /models/blobs/sha256-1: no space left on device"})
            self.close_connection = True
            return
        left, begin, hashed = min(length, self.stub.hang_up_after), b"", hashlib.sha256()
        while left and (chunk := self.rfile.read(min(left, 1 << 20))):
            left, begin = left - len(chunk), begin or chunk[:4]
            hashed.update(chunk)
        if left or length > self.stub.hang_up_after:
            self.close_connection = True
            return
        found = f"sha256:{hashed.hexdigest()}"
        if found != digest:
            self.answer(400, {"error": f'digest mismatch, expected "{digest}", got "{found}"'})
            return
        self.stub.blobs[digest] = begin
        self.stub.uploads.append(digest)
        self.answer(201, None)

    def answer(self, status: int, value: Any) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""
