"""What the checkpoint tests share: files written byte by byte, and the form that every refusal has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converter.errors import CheckpointError

Header = dict[str, Any] | bytes


def _file_bytes(header: Header, data: bytes | int = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + (bytes(data) if isinstance(data, int) else data)


@pytest.fixture
def file_bytes() -> Callable[..., bytes]:
    """``file_bytes(header, data)``: a safetensors file of that header (an object, or raw bytes) and that data."""
    return _file_bytes


@pytest.fixture
def write_shard() -> Callable[..., Path]:
    """``write_shard(path, **elements)``: float32 tensors of so many zeros each, one behind the other."""

    def write(path: Path, **elements: int) -> Path:
        header, position = {}, 0
        for name, count in elements.items():
            header[name] = {"dtype": "F32", "shape": [count], "data_offsets": [position, position + 4 * count]}
            position += 4 * count
        path.write_bytes(_file_bytes(header, position))
        return path

    return write


@pytest.fixture
def refusal() -> Callable[..., str]:
    """``refusal(function, *arguments)``: the one line with which the call is refused."""

    def refused(function: Callable[..., object], *arguments: object) -> str:
        with pytest.raises(CheckpointError) as caught:
            function(*arguments)
        message = str(caught.value)
        assert caught.value.exit_code == 1
        assert message.isprintable(), "a refusal is one line"
        assert len(message) < 1000
        return message

    return refused


@pytest.fixture
def checkpoint_directory(tmp_path: Path) -> Path:
    """A directory with nothing but a ``config.json``."""
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    return tmp_path
