"""What differs between kinds of models when a file is verified: what is measured, held against what, told how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from converter.verification.embedding_thresholds import EmbeddingThresholds, embedding_thresholds_for
from converter.verification.thresholds import Thresholds, thresholds_for


@dataclass(frozen=True)
class Kind:
    """One kind of model.

    Attributes:
        does: what the file has shown to do once it is loaded.
        results: what of the source and the file is compared.
        figures: what is measured, by the names that ``compare`` and ``Verification`` share.
        compared: name of the figure that counts what was compared, and the word for one.
        thresholds: of a method.
        in_words: the figures in a sentence.
    """

    does: str
    results: str
    figures: tuple[str, ...]
    compared: tuple[str, str]
    thresholds: Callable[[str], Thresholds | EmbeddingThresholds]
    in_words: Callable[[Mapping[str, float]], str]


def predictions_in_words(measured: Mapping[str, float]) -> str:
    return (
        f"the source's most likely token at {measured['top1_agreement']:.1%} of positions, mean KL divergence "
        f"{measured['mean_kl']:.2g} nats, perplexity {measured['file_perplexity']:.4g} against "
        f"{measured['source_perplexity']:.4g}"
    )


def embeddings_in_words(measured: Mapping[str, float]) -> str:
    return (
        f"embeddings like the source's with a cosine of {measured['cosine']:.6f}, "
        f"{measured['centred_cosine']:.6f} without what all have in common"
    )


PREDICTED = ("top1_agreement", "mean_kl", "lost_information", "source_perplexity", "file_perplexity")

ENCODER = Kind(
    "embeds text, every element finite",
    "embeddings",
    ("cosine", "centred_cosine"),
    ("rows", "embeddings"),
    embedding_thresholds_for,
    embeddings_in_words,
)

#: By what a file says of itself (``LlamaModel.kind``).
KINDS: Mapping[str, Kind] = {
    "causal": Kind(
        "generates text, every logit finite",
        "predictions",
        PREDICTED,
        ("positions", "tokens"),
        thresholds_for,
        predictions_in_words,
    ),
    "encoder": ENCODER,
    # Compared by the embeddings that its scores are made of.
    "reranker": replace(ENCODER, does="scores text, every score finite"),
    "encoder-decoder": Kind(
        "answers text, every logit finite",
        "predictions",
        PREDICTED,
        ("positions", "tokens"),
        thresholds_for,
        predictions_in_words,
    ),
}
