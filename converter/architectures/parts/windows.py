"""Layers that attend to a sliding window, in families whose cache for them llama.cpp always makes."""

from __future__ import annotations

from collections.abc import Sequence

from converter.errors import ArchitectureError

#: transformers' words for the two kinds of layers.
FULL, WINDOW = "full_attention", "sliding_attention"


def windowed(arch: str, kinds: Sequence[str]) -> list[bool]:
    """Which layers attend to a window only, out of each layer's kind.

    Raises:
        ArchitectureError: none does; llama.cpp ends its process over the empty cache.
    """
    if WINDOW not in kinds:
        raise ArchitectureError(
            f"config.json: 'layer_types' has {FULL!r} for all layers, but llama.cpp runs {arch} only with a {WINDOW!r} "
            "among them"
        )
    return [kind == WINDOW for kind in kinds]
