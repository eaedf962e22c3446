"""How far a faithful file may be from its source, for each method: of predictions, and of embeddings.

Predictions: measured with the built-in passage on the sample model in ``tests/fixtures`` (1,536 positions), which is
trained, and, for the information lost, the worst of eight models with random weights (2 to 22 layers, 2,048 positions
each), which amplify every rounding far more than a trained one:

====== ======= ======== ============ =====================
method top-1   mean KL  perplexity   information lost:
       agrees  (nats)   ratio        sample, random models
====== ======= ======== ============ =====================
f32    1.0000  3.0e-12  1.0000       6.8e-13  7.5e-11
f16    0.9993  1.7e-7   1.0000       3.8e-8   2.6e-5
bf16   0.9987  1.0e-5   0.9999       2.3e-6   1.5e-3
q8_0   0.9883  3.0e-4   1.0004       6.9e-5   1.7e-2
q5_1   0.9505  3.8e-3   0.9926       8.6e-4   3.1e-1
q5_0   0.9538  5.4e-3   1.0037       1.2e-3   3.6e-1
q4_1   0.9154  1.3e-2   1.0016       3.0e-3   7.0e-1
q4_0   0.8965  1.7e-2   1.0171       4.0e-3   7.9e-1
====== ======= ======== ============ =====================

(Where weights are f16, bf16 or q8_0, llama.cpp rounds the activations that meet them as well, so not even an exact copy
of bfloat16 weights gives the source's very logits.)

The limits are the sample's figures with a safety factor: 15 for the mean KL, 5 for disagreement on the first token,
and for the perplexity twice the square root of the mean KL (an average of log-probabilities moves in the first order
of an error, KL in the second); for the information lost, twice the worst random model, but no more than 1.2, where
an unrelated model loses about 2. Where a figure is near zero, 1e-5 (3e-5 for f16, whose small weights become
subnormal), 0.005 and 0.001. For comparison, an 8B Llama 3 has 4 to 5.5 times the sample's KL in q8_0 to q4_0 by the
table in llama.cpp's ``tools/perplexity/README.md``.

Twenty damages to the sample, one tensor of its second layer or the last norm zeroed or turned end for end, are all
noticed in the f32 and bf16 files; in q8_0 all but the turned last norm, in q4_0 all but three turned norms: these
change less than the rounding may.

Embeddings: measured with the built-in passage on random encoders, with and without pooling (BERT of 2 and 12 layers,
ModernBERT of 6, RoBERTa of 12; at least 32 embeddings each), the worst of them. What is missing to 1:

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

from converter.quants import QUANT_TYPES
from converter.recipes import find_method


@dataclass(frozen=True)
class Thresholds:
    """What a faithful file keeps to.

    Attributes:
        top1_agreement: least share of positions where file and source put the same token first.
        mean_kl: greatest mean KL(source || file), in nats.
        lost_information: greatest mean KL as a share of the mean KL(source || uniform); it stands in for the first two
            where the source itself is untrained: its logits are flat, so that no KL is large and any rounding puts
            another token first.
        perplexity_ratio: greatest perplexity of the file over that of the source.
    """

    top1_agreement: float
    mean_kl: float
    lost_information: float
    perplexity_ratio: float

    def exceeded_by(self, measured: Mapping[str, float], vocab_size: int) -> list[str]:
        """The figures that are beyond their limits, each with its limit, in words.

        Args:
            measured: ``top1_agreement``, ``mean_kl``, ``lost_information``, ``source_perplexity`` and
                ``file_perplexity``.
            vocab_size: elements of a row of logits.
        """
        kl, lost, top1 = (measured[name] for name in ("mean_kl", "lost_information", "top1_agreement"))
        source, file = measured["source_perplexity"], measured["file_perplexity"]
        certain = trained(measured, vocab_size)
        excesses = {
            f"mean KL divergence {kl:.2g} nats, at most {self.mean_kl:g} expected": certain and kl > self.mean_kl,
            f"the source's most likely token at {top1:.1%} of positions, at least {self.top1_agreement:.1%} expected": (
                certain and top1 < self.top1_agreement
            ),
            f"{lost:.2g} of the information in the source's predictions lost, at most {self.lost_information:g} "
            "expected": (not certain and lost > self.lost_information),
            f"perplexity {file / source:.4g} times the source's, at most {self.perplexity_ratio:g} expected": (
                file > source * self.perplexity_ratio
            ),
        }
        return [words for words, beyond in excesses.items() if beyond]


def trained(measured: Mapping[str, float], vocab_size: int) -> bool:
    """Whether the source predicts at least twice as well as guessing, whose perplexity is the vocabulary's size."""
    return measured["source_perplexity"] < vocab_size / 2


THRESHOLDS: Mapping[str, Thresholds] = {
    "f32": Thresholds(0.995, 1e-5, 1e-5, 1.001),
    "f16": Thresholds(0.995, 3e-5, 5e-5, 1.001),
    "bf16": Thresholds(0.993, 1.5e-4, 3e-3, 1.006),
    "q8_0": Thresholds(0.94, 4.5e-3, 0.035, 1.035),
    "q5_1": Thresholds(0.76, 0.057, 0.7, 1.12),
    "q5_0": Thresholds(0.76, 0.081, 0.7, 1.15),
    "q4_1": Thresholds(0.58, 0.2, 1.2, 1.23),
    "q4_0": Thresholds(0.48, 0.26, 1.2, 1.26),
}


def thresholds_for(method: str) -> Thresholds:
    """The row of a method; where it has none, that of the next one with fewer bits per weight.

    Below the last row an error doubles with every bit that is missing, and KL with its square.

    Args:
        method: a name of ``converter.recipes.METHODS``.

    Raises:
        UsageError: no such method.
    """
    name = find_method(method).name
    return THRESHOLDS.get(name) or thresholds_for_bits(bits_per_weight(name))


def thresholds_for_bits(bits: float) -> Thresholds:
    """Thresholds of a method known only by the bits per weight of its main type."""
    rows = {name: bits_per_weight(name) for name in THRESHOLDS if name != "bf16"}  # bf16 has f16's bits, less precision
    within = {name: size for name, size in rows.items() if size <= bits}
    if within:
        return THRESHOLDS[max(within, key=within.__getitem__)]
    least = min(rows, key=rows.__getitem__)
    row, growth = THRESHOLDS[least], 2.0 ** (rows[least] - bits)
    return Thresholds(
        top1_agreement=max(0.0, 1 - (1 - row.top1_agreement) * growth),
        mean_kl=row.mean_kl * growth**2,
        lost_information=min(1.5, row.lost_information * growth),
        perplexity_ratio=1 + (row.perplexity_ratio - 1) * growth,
    )


def bits_per_weight(method: str) -> float:
    return QUANT_TYPES[find_method(method).type].bits_per_weight


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
            f"a mean cosine of {cosine:.6f} with the source's embeddings, at least {self.cosine:g} expected": (
                cosine < self.cosine
            ),
            f"a mean cosine of {centred:.4f} once their mean is subtracted, at least {self.centred_cosine:g} "
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
