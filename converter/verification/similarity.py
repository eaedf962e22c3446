"""How near one model's embeddings are to another's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

#: What makes one embedding of a text's many, shape (tokens, length) to (rows, length), by llama.cpp's
#: ``llama_pooling_type``: none, mean, the first token's, the last one's.
POOLINGS: tuple[Callable[[NDArray[np.float32]], NDArray[np.float32]], ...] = (
    lambda tokens: tokens,
    lambda tokens: np.mean(tokens, axis=0, keepdims=True),
    lambda tokens: tokens[:1],
    lambda tokens: tokens[-1:],
)


def similarity(source: Sequence[NDArray[np.float32]], file: Sequence[NDArray[np.float32]]) -> dict[str, float]:
    """Cosines of the embeddings of the same texts, row by row.

    Args:
        source: of each text float32 (rows, length), the source's embeddings; finite.
        file: the same of the file.

    Returns:
        ``rows``: how many were compared; ``cosine``: mean cosine of the file's and the source's; ``centred_cosine``:
        the same after the source's mean embedding was taken from both. All embeddings of a model tend to have a large
        part in common, so that even those of different texts have a cosine near 1; without that part it is near 0.
    """
    expected, found = (np.concatenate(rows).astype(np.float64) for rows in (source, file))
    centre = expected.mean(axis=0)
    return {
        "rows": len(expected),
        "cosine": float(cosines(expected, found).mean()),
        "centred_cosine": float(cosines(expected - centre, found - centre).mean()),
    }


def cosines(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of each row of one array and that of the other, shape (rows,); 0 for a row of zeros."""
    lengths: NDArray[np.float64] = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    found: NDArray[np.float64] = np.zeros(len(first))
    np.divide((first * second).sum(axis=1), lengths, out=found, where=lengths > 0)
    return found
