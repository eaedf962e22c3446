"""From figures to a verdict: what is measured of each kind of model, held against what, told how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from converter.verification.thresholds import (
    EmbeddingThresholds,
    Thresholds,
    embedding_thresholds_for,
    thresholds_for,
    trained,
)
from converter.verification.verdict import Verification, finished


@dataclass(frozen=True)
class Kind:
    """One kind of model.

    Attributes:
        does: what the file has shown to do once it is loaded.
        results: what of the source and the file is compared.
        figures: what is measured, by the names that ``compare`` and ``Verification`` share.
        compared: name of the figure that counts what was compared, and the word for one.
        thresholds: of a method.
        in_words: the figures in a sentence, given the limits and the length of a row.
    """

    does: str
    results: str
    figures: tuple[str, ...]
    compared: tuple[str, str]
    thresholds: Callable[[str], Thresholds | EmbeddingThresholds]
    in_words: Callable[[Mapping[str, float], Any, int], str]


def predictions_in_words(measured: Mapping[str, float], limits: Thresholds, vocab_size: int) -> str:
    if not trained(measured, vocab_size):
        return (
            "the source predicts nearly at random, as a model without training does, so they are compared by how much "
            f"of the information in its predictions is lost: {measured['lost_information']:.2g}, at most "
            f"{limits.lost_information:g} expected"
        )
    ratio = measured["file_perplexity"] / measured["source_perplexity"]
    return (
        f"the source's most likely token at {measured['top1_agreement']:.1%} of positions, mean KL divergence "
        f"{measured['mean_kl']:.2g} nats, perplexity {ratio:.4g} times the source's"
    )


def embeddings_in_words(measured: Mapping[str, float], _: EmbeddingThresholds, __: int) -> str:
    return (
        f"a mean cosine of {measured['cosine']:.6f} with the source's embeddings, {measured['centred_cosine']:.6f} "
        "once their mean is subtracted"
    )


PREDICTED = ("top1_agreement", "mean_kl", "lost_information", "source_perplexity", "file_perplexity")

CAUSAL = Kind(
    "generates text, every logit finite",
    "predictions",
    PREDICTED,
    ("positions", "tokens"),
    thresholds_for,
    predictions_in_words,
)

ENCODER = Kind(
    "embeds text, every element finite",
    "embeddings",
    ("cosine", "centred_cosine"),
    ("rows", "embeddings"),
    embedding_thresholds_for,
    embeddings_in_words,
)

#: By what an output says of itself.
KINDS: Mapping[str, Kind] = {
    "causal": CAUSAL,
    "encoder": ENCODER,
    # Compared by the embeddings that its scores are made of.
    "reranker": replace(ENCODER, does="scores text, every score finite"),
    "encoder-decoder": replace(CAUSAL, does="answers text, every logit finite"),
}


def judged(
    result: Verification,
    kind: Kind,
    figures: Mapping[str, Any],
    limits: Thresholds | EmbeddingThresholds,
    method: str,
    besides: str,
    started: float,
    *,
    row_length: int,
    what: str = "file",
) -> Verification:
    """Hold measured figures against thresholds.

    Args:
        result: what was found so far.
        kind: of the model.
        figures: what was measured, by name.
        limits: the thresholds.
        method: what made the output, for the verdict.
        besides: the end of a good verdict.
        started: when the verification began, by ``time.perf_counter()``.
        row_length: of a row of logits or an embedding.
        what: the output, in a word.
    """
    measured = {name: figures[name] for name in kind.figures}
    result = replace(result, thresholds=limits, **measured)
    excesses = limits.exceeded_by(measured, row_length)
    counted, name = kind.compared
    over = f"over {figures[counted]:,} {name}"
    if excesses:
        return finished(result, f"the {what} is not faithful {over}, for {method}: {'; '.join(excesses)}", started)
    words = kind.in_words(measured, limits, row_length)
    return finished(result, f"faithful {over}: {words}; {besides}", started, passed=True)
