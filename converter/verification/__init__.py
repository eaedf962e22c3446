"""Is a finished file faithful? It is loaded with llama.cpp and compared with its source.

The processes that load files import this package too, and start sooner without what only the parent needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converter.verification.embedding_thresholds import EmbeddingThresholds
    from converter.verification.gguf import Verification, verify
    from converter.verification.thresholds import THRESHOLDS, Thresholds, thresholds_for

__all__ = ["THRESHOLDS", "EmbeddingThresholds", "Thresholds", "Verification", "thresholds_for", "verify"]

_MODULES = {
    "EmbeddingThresholds": "embedding_thresholds",
    "THRESHOLDS": "thresholds",
    "Thresholds": "thresholds",
    "thresholds_for": "thresholds",
    "Verification": "gguf",
    "verify": "gguf",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
