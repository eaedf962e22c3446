"""Families whose output matrix is the embedding in llama.cpp, so a checkpoint with another one cannot be run."""

from __future__ import annotations

import numpy as np

from converter.architectures.family import Family
from converter.errors import ArchitectureError


def require_tied(family: Family, embedding: str, output: str) -> None:
    """Refuse an output matrix of its own; a copy of the embedding, as some tools save it, may be there.

    Args:
        family: whose config and sources these are.
        embedding, output: names of the two source tensors.

    Raises:
        ArchitectureError: config.json unties them, or the first, middle or last row of the two differ.
    """
    family.config.one_of("tie_word_embeddings", True)
    if output not in family.sources:
        return
    shape = family.source(embedding, None).shape
    first, second = (family.source(name, shape) for name in (embedding, output))
    for row in (0, shape[0] // 2, shape[0] - 1):
        if not np.array_equal(first.read_rows(row, row + 1), second.read_rows(row, row + 1)):
            raise ArchitectureError(
                f"{output}: differs from {embedding} in row {row}, but llama.cpp runs this family only with the "
                "embedding as its output matrix"
            )
