"""What a verification found."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converter.verification.thresholds import EmbeddingThresholds, Thresholds

LEVELS = ("load", "full")


@dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        level: ``load`` or ``full``.
        passed: whether the file may be used.
        verdict: one sentence: what was checked and with what result, or what failed and how far.
        generated: the text that the file continued a short prompt with; empty for an encoder.
        probes: difficult strings whose token ids agreed with the source's tokenizer.
        top1_agreement: share of positions where file and source put the same token first. This and the next four are
            None below ``full`` and for an encoder.
        mean_kl: mean KL(source || file) in nats.
        lost_information: mean KL as a share of the mean KL(source || uniform).
        source_perplexity: of the source on the built-in passage.
        file_perplexity: of the file on the same tokens.
        cosine: mean cosine of an encoder's embeddings with the source's; None below ``full`` and for other models, as
            the next one.
        centred_cosine: the same without the source's mean embedding.
        thresholds: what the figures were held against; None below ``full``.
        seconds: how long it took.
        warnings: what the user should know though the file is right, one sentence each.
    """

    level: str
    passed: bool
    verdict: str
    generated: str = ""
    probes: int = 0
    top1_agreement: float | None = None
    mean_kl: float | None = None
    lost_information: float | None = None
    source_perplexity: float | None = None
    file_perplexity: float | None = None
    cosine: float | None = None
    centred_cosine: float | None = None
    thresholds: Thresholds | EmbeddingThresholds | None = None
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


def finished(result: Verification, verdict: str, started: float, *, passed: bool = False) -> Verification:
    """The finding with its verdict; ``started`` is ``time.perf_counter()`` at its beginning."""
    return replace(result, passed=passed, verdict=verdict, seconds=time.perf_counter() - started)
