"""A real S3 server on loopback, and a bucket in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest


class Bucket:
    """A bucket by name; ``store`` is an fsspec filesystem of the same server."""

    def __init__(self, name: str, store: Any) -> None:
        self.name, self._store = name, store

    def put(self, folder: str, source: Path | Mapping[str, bytes]) -> None:
        """Store these files, or all of a directory."""
        if isinstance(source, Path):
            source = {path.name: path.read_bytes() for path in source.iterdir()}
        for name, content in source.items():
            self._store.pipe_file(f"{self.name}/{folder}/{name}", content)

    def names(self) -> list[str]:
        """Every key in it."""
        self._store.invalidate_cache()
        return sorted(path.removeprefix(f"{self.name}/") for path in self._store.find(self.name))

    def remove(self) -> None:
        """Delete it with all that is in it."""
        self._store.rm(self.name, recursive=True)

    def content(self, key: str) -> bytes:
        found: bytes = self._store.cat_file(f"{self.name}/{key}")
        return found


@contextmanager
def running_s3() -> Iterator[dict[str, str]]:
    """Start a server; yields the environment in which a process finds it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would tell of each request among the command's lines
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server.stop()


@contextmanager
def empty_bucket(environment: Mapping[str, str], name: str = "shelf") -> Iterator[Bucket]:
    """An empty bucket on an otherwise empty server, which this process finds by its own environment meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        for key, value in environment.items():
            patch.setenv(key, value)
        import s3fs

        urlopen(Request(f"{environment['AWS_ENDPOINT_URL']}/moto-api/reset", method="POST")).close()
        store = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
        store.mkdir(name)
        yield Bucket(name, store)
