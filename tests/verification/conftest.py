"""A random Llama and files made from it; the damages that tests do to copies of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_builder import write_model
from gguf import GGUFReader
from numpy.typing import NDArray

from converter import convert


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random float32 Llama of two layers, 256 wide, with a vocabulary of 512."""
    return write_model(tmp_path_factory.mktemp("verification") / "model", "llama")


@pytest.fixture(scope="session")
def files(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint converted by a method, once, not verified."""
    folder, made = tmp_path_factory.mktemp("files"), {}

    def file(method: str) -> Path:
        if method not in made:
            made[method] = convert(checkpoint, method, folder / f"{method}.gguf", verify="none").output
        return made[method]

    return file


@pytest.fixture
def damaged(files: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of a file with one tensor's elements (or, quantized, bytes) changed in place."""

    def damage(method: str, tensor: str, change: Callable[[NDArray[Any]], None]) -> Path:
        path = Path(shutil.copy(files(method), tmp_path / "damaged.gguf.part"))
        data = next(found.data for found in GGUFReader(path, "r+").tensors if found.name == tensor)
        before = data.copy()
        change(data)
        assert not np.array_equal(before, data, equal_nan=data.dtype.kind == "f"), "the damage changed nothing"
        data.flush()
        return path

    return damage
