"""How far an output's results are from the source's: the figures that a judgement is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.verification.divergence import Divergence
from converter.verification.similarity import similarity

#: Kinds of models that make embeddings of texts, and no logits.
EMBEDDING = ("encoder", "reranker")

#: A window's tokens (window,), the source's results (window, row) and the output's: rows of logits, or embeddings.
Window = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]


def compare(
    kind: str,
    windows: Iterable[Window],
    pool: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda rows: rows,
) -> dict[str, Any]:
    """Add up window by window.

    Args:
        kind: of the model, a key of ``judge.KINDS``.
        windows: tokens and both sides' results.
        pool: what makes of the source's embeddings of a text those that the output made of it.

    Returns:
        The figures of ``Divergence`` or ``similarity``, by name.
    """
    if kind in EMBEDDING:
        both = [(pool(expected), found) for _, expected, found in windows]
        return similarity([expected for expected, _ in both], [found for _, found in both])
    total = Divergence()
    for ids, expected, found in windows:
        # A decoder that repeats what its encoder read predicts each token, the first one too.
        read = np.concatenate([[0], ids[:-1]]) if kind == "encoder-decoder" else ids
        total.add(read, expected, found)
    return total.figures()
