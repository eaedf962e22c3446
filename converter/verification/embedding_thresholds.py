"""How far an encoder's file may be from its source, for each method.

Measured with the built-in passage on random encoders, with and without pooling (BERT of 2 and 12 layers, ModernBERT of
6, RoBERTa of 12; at least 32 embeddings each), the worst of them. What is missing to 1:

====== ====== ==============
method cosine centred cosine
====== ====== ==============
f32    1.4e-7 3.8e-5
f16    1.1e-6 1.5e-4
bf16   6.5e-5 1.0e-2
q8_0   7.4e-4 9.2e-2
q6_k   4.6e-3 3.5e-1
q5_1   1.6e-2 6.0e-1
q5_0   1.8e-2 7.6e-1
q4_1   5.6e-2 8.2e-1
q4_0   7.2e-2 9.1e-1
====== ====== ==============

Without training, deep encoders make nearly the same embedding of every text, so that little is left without the mean; a
trained one has more. The limits are three times the cosine's figure and twice the centred one's, at least 1e-5 and
1e-3, at most 0.95.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from converter.recipes import find_method
from converter.verification.thresholds import bits_per_weight


@dataclass(frozen=True)
class EmbeddingThresholds:
    """What a faithful file of an encoder keeps to.

    Attributes:
        cosine: least mean cosine of the file's and the source's embeddings.
        centred_cosine: the same, the source's mean embedding taken from both.
    """

    cosine: float
    centred_cosine: float

    def exceeded_by(self, measured: Mapping[str, float], _: int) -> list[str]:
        """The figures that are beyond their limits, each with its limit, in words; as ``Thresholds.exceeded_by``."""
        cosine, centred = measured["cosine"], measured["centred_cosine"]
        excesses = {
            f"embeddings like the source's with a cosine of {cosine:.6f}, at least {self.cosine:g} expected": (
                cosine < self.cosine
            ),
            f"with a cosine of {centred:.4f} without what all have in common, at least {self.centred_cosine:g} "
            "expected": centred < self.centred_cosine,
        }
        return [words for words, beyond in excesses.items() if beyond]


EMBEDDING_THRESHOLDS: Mapping[str, EmbeddingThresholds] = {
    "f32": EmbeddingThresholds(0.99999, 0.999),
    "f16": EmbeddingThresholds(0.99999, 0.999),
    "bf16": EmbeddingThresholds(0.9998, 0.98),
    "q8_0": EmbeddingThresholds(0.9978, 0.82),
    "q6_k": EmbeddingThresholds(0.986, 0.3),
    "q5_1": EmbeddingThresholds(0.952, 0.05),
    "q5_0": EmbeddingThresholds(0.946, 0.05),
    "q4_1": EmbeddingThresholds(0.83, 0.05),
    "q4_0": EmbeddingThresholds(0.78, 0.05),
}


def embedding_thresholds_for(method: str) -> EmbeddingThresholds:
    """The row of a method; where it has none, that of the next one with fewer bits per weight.

    Below the last row an error doubles with every bit that is missing, and what is missing to a cosine of 1 with its
    square.

    Args:
        method: a name of ``converter.recipes.METHODS``.

    Raises:
        UsageError: no such method.
    """
    name = find_method(method).name
    if name in EMBEDDING_THRESHOLDS:
        return EMBEDDING_THRESHOLDS[name]
    bits = bits_per_weight(name)
    rows = {row: bits_per_weight(row) for row in EMBEDDING_THRESHOLDS if row != "bf16"}  # f16's bits, less precision
    within = {row: size for row, size in rows.items() if size <= bits}
    if within:
        return EMBEDDING_THRESHOLDS[max(within, key=within.__getitem__)]
    least = min(rows, key=rows.__getitem__)
    missing = (1 - EMBEDDING_THRESHOLDS[least].cosine) * 4.0 ** (rows[least] - bits)
    return EmbeddingThresholds(max(0.0, 1 - missing), EMBEDDING_THRESHOLDS[least].centred_cosine)
