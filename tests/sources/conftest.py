"""The Hub on loopback in the client's own settings, and an S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer
from huggingface_hub import constants
from s3_server import Bucket, empty_bucket, running_s3

from converter.sources import retry


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub of its own for each test, with an empty cache and no token."""
    with HubServer() as server:
        server.stand_in(monkeypatch, tmp_path / "cache")
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "no-tokens"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    """An S3 server: its address and keys, as a process's environment holds them."""
    with running_s3() as environment:
        yield environment


@pytest.fixture
def bucket(s3: dict[str, str]) -> Iterator[Bucket]:
    """An empty bucket, with the address and keys of its server in the environment."""
    with empty_bucket(s3) as found:
        yield found
