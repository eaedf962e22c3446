"""What the checkpoint tests share: files written byte by byte, and the form that every refusal has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from converter.checkpoints import Checkpoint, SourceTensor, open_checkpoint
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


@pytest.fixture
def quantized(tmp_path: Path) -> Callable[..., Checkpoint]:
    """``quantized(settings, tensors)``: a checkpoint of those tensors with that ``quantization_config``, opened."""

    def write(settings: Any, tensors: dict[str, torch.Tensor]) -> Checkpoint:
        (tmp_path / "config.json").write_text(json.dumps({"quantization_config": settings}))
        save_file(
            {name: tensor.clone().contiguous() for name, tensor in tensors.items()}, tmp_path / "model.safetensors"
        )
        return open_checkpoint(tmp_path)

    return write


@pytest.fixture
def assert_reads() -> Callable[..., None]:
    """``assert_reads(tensor, expected)``: shape and every bit of every value, in whole and in odd pieces."""

    def check(tensor: SourceTensor, expected: torch.Tensor) -> None:
        assert tensor.shape == tuple(expected.shape)
        matrix = expected.float().reshape(tensor.rows, tensor.row_length).numpy()
        rows, length = matrix.shape
        for start, stop in [(0, rows), (1, rows), (rows // 3, rows // 2 + 1), (rows - 1, rows), (rows, rows)]:
            for columns in [None, slice(1, length - 1), slice(length // 2, None), slice(0, 3)]:
                read = tensor.read_rows(start, stop, columns)
                np.testing.assert_array_equal(_bits(read), _bits(matrix[start:stop, columns or slice(None)]))
        out = np.full(matrix.shape, np.nan, np.float32)
        assert tensor.read_rows(0, rows, out=out) is out
        np.testing.assert_array_equal(_bits(out), _bits(matrix))

    return check


def _bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(values).view(np.uint32)
