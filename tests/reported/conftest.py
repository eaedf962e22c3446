"""What tests of reported configurations begin with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoint_builder import write_model

from converter import Result, convert


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("llama") / "model", "llama")


@pytest.fixture
def converted(tmp_path: Path) -> Callable[..., Result]:
    def run(model: Path, verify: str = "none") -> Result:
        return convert(model, "f32", tmp_path / "out.gguf", verify=verify)

    return run
