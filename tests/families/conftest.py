"""Checkpoints of the variations, and changes of their config.json that are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from checkpoint_builder import write_model
from checkpoint_layouts import with_config

from converter import convert
from converter.errors import ArchitectureError


class Checkpoints(dict[str, Path]):
    """Directories by variation, each written when it is first asked for."""

    def __init__(self, temporary: pytest.TempPathFactory) -> None:
        super().__init__()
        self._temporary = temporary

    def __missing__(self, name: str) -> Path:
        self[name] = write_model(self._temporary.mktemp(name) / "model", name)
        return self[name]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A checkpoint of any variation; not to be changed."""
    return Checkpoints(tmp_path_factory)


@pytest.fixture
def refused(checkpoints: Mapping[str, Path], tmp_path: Path) -> Callable[..., None]:
    """Checks that a checkpoint with other fields in config.json is refused in one line, before anything is written."""

    def check(name: str, changes: dict[str, Any], message: str, *, text: bool = False) -> None:
        model = with_config(checkpoints[name], tmp_path / "model", changes, text=text)
        with pytest.raises(ArchitectureError, match=message) as refusal:
            convert(model, "f32", tmp_path / "out.gguf", verify="none")
        assert "\n" not in str(refusal.value)
        assert not list(tmp_path.glob("*.gguf*"))

    return check
