"""Is a finished output faithful? It is loaded and run as its users would, and compared with its source.

    run the source ─▶ results ─┐
                               ├─▶ compare ─▶ figures ─▶ judge ─▶ verdict
    run the output ────────────┘

``run_source`` runs the source and leaves its ``results`` on the disk, once for all outputs that are compared with it
(``source_results``). ``run_output_llama_cpp`` and ``run_output_transformers`` run an output. ``compare`` makes figures
of both, ``judge`` a verdict of figures and ``thresholds``. ``gguf`` and ``directory`` put these steps in their order.

The processes that load files import this package too, and start sooner without what only the parent needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converter.verification.directory import verify_directory
    from converter.verification.gguf import verify
    from converter.verification.thresholds import THRESHOLDS, EmbeddingThresholds, Thresholds, thresholds_for
    from converter.verification.verdict import Verification

__all__ = [
    "THRESHOLDS",
    "EmbeddingThresholds",
    "Thresholds",
    "Verification",
    "thresholds_for",
    "verify",
    "verify_directory",
]

_MODULES = {
    "EmbeddingThresholds": "thresholds",
    "THRESHOLDS": "thresholds",
    "Thresholds": "thresholds",
    "Verification": "verdict",
    "thresholds_for": "thresholds",
    "verify": "gguf",
    "verify_directory": "directory",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
