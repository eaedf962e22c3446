"""Random encoders: what the modules of ``tests/families`` list as ``ENCODERS``, built as the other families are."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from checkpoint_builder import write_model
from variation import MODULES, VARIATIONS

#: Every variation by name. They are not among ``VARIATIONS``, whose logits are compared: these have embeddings.
ENCODERS = {variation.name: variation for module in MODULES for variation in getattr(module, "ENCODERS", ())}


def write_encoder(directory: Path, variation: str, **overrides: Any) -> Path:
    """``checkpoint_builder.write_model`` for a name of ``ENCODERS``."""
    with mock.patch.dict(VARIATIONS, ENCODERS):
        return write_model(directory, variation, **overrides)
