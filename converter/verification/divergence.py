"""How far one model's predictions are from another's, from their logits alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Positions widened to float64 at once: 16 rows of a 256,000-token vocabulary take 32 MB.
ROWS = 16


@dataclass
class Divergence:
    """Sums over positions, added up window by window.

    Attributes:
        positions: positions compared.
        agreements: positions where both models put the same token first.
        kl: summed Kullback-Leibler divergence KL(source || file), in nats.
        certainty: summed KL(source || uniform), in nats: all that the source's predictions say.
        predicted: positions whose next token is known.
        source_nats: negative log-likelihood of those next tokens under the source.
        file_nats: the same under the file.
    """

    positions: int = 0
    agreements: int = 0
    kl: float = 0.0
    certainty: float = 0.0
    predicted: int = 0
    source_nats: float = 0.0
    file_nats: float = 0.0

    def add(self, ids: NDArray[np.int64], source: NDArray[np.float32], file: NDArray[np.float32]) -> None:
        """Count one window.

        Args:
            ids: int64 (n,), the window's tokens.
            source: float32 (n, vocabulary), the source's logits after each token; finite.
            file: float32 (n, vocabulary), the file's logits after each token; finite.
        """
        for start in range(0, len(ids), ROWS):
            p = log_softmax(source[start : start + ROWS])
            q = log_softmax(file[start : start + ROWS])
            probability = np.exp(p)
            self.positions += len(p)
            self.agreements += int((p.argmax(axis=1) == q.argmax(axis=1)).sum())
            self.kl += float((probability * (p - q)).sum())
            self.certainty += float((probability * p).sum()) + len(p) * math.log(p.shape[1])
            following = ids[start + 1 : start + 1 + ROWS]
            rows = np.arange(len(following))
            self.predicted += len(following)
            self.source_nats -= float(p[rows, following].sum())
            self.file_nats -= float(q[rows, following].sum())

    def figures(self) -> dict[str, float]:
        """What a verification reports, by name."""
        names = ("positions", "top1_agreement", "mean_kl", "lost_information", "source_perplexity", "file_perplexity")
        return {name: getattr(self, name) for name in names}

    @property
    def top1_agreement(self) -> float:
        """Share of positions where both put the same token first, 0 to 1."""
        return self.agreements / self.positions

    @property
    def mean_kl(self) -> float:
        """KL(source || file) per position, in nats."""
        return self.kl / self.positions

    @property
    def lost_information(self) -> float:
        """Mean KL as a share of what the source's predictions say: 0 for the same predictions, 1 for none at all.

        Unlike the mean KL it keeps its meaning where the source itself is hardly certain of anything, as a model
        without training: there even a wrong model has a small KL.
        """
        return self.kl / self.certainty if self.certainty > 0 else math.inf

    @property
    def source_perplexity(self) -> float:
        return math.exp(self.source_nats / self.predicted)

    @property
    def file_perplexity(self) -> float:
        nats = self.file_nats / self.predicted
        return math.exp(nats) if nats < 700 else math.inf


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Natural logarithms of the probabilities, float64, same shape."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=1, keepdims=True))
    return wide
