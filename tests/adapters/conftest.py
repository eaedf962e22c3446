"""Models that adapters are made for, each built once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoint_builder import write_model


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Directories of models by variation."""
    folder = tmp_path_factory.mktemp("bases")

    def base(variation: str) -> Path:
        path = folder / variation / "model"  # llama.cpp treats a few names in its own way
        return path if path.exists() else write_model(path, variation)

    return base
