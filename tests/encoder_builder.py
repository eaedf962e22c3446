"""Random encoders, with a decoder or without, built as the other families' models are."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from checkpoint_builder import write_model
from variation import MODULES, VARIATIONS

#: Every variation by name. They are not among ``VARIATIONS``, whose logits are compared: encoders have embeddings, and
#: decoders behind an encoder have logits after it has read a text.
ENCODERS, ENCODER_DECODERS = (
    {variation.name: variation for module in MODULES for variation in getattr(module, kind, ())}
    for kind in ("ENCODERS", "ENCODER_DECODERS")
)


def write_encoder(directory: Path, variation: str, **overrides: Any) -> Path:
    """``checkpoint_builder.write_model`` for a name of ``ENCODERS`` or ``ENCODER_DECODERS``."""
    with mock.patch.dict(VARIATIONS, ENCODERS | ENCODER_DECODERS):
        return write_model(directory, variation, **overrides)
