"""How far a faithful file may be from its source, for each method.

Measured with the built-in passage (1,792 positions) on the sample model in ``tests/fixtures``, which is trained, and
the worst of three models with random weights, which amplify every rounding far more than a trained one:

====== ======= ======== ========== =========== ========= ========== ===========
method sample: random:  sample:    random:     sample:   random:    sample:
       top-1   top-1    mean KL    mean KL     lost      lost       perplexity
====== ======= ======== ========== =========== ========= ========== ===========
f32    1.0000  1.0000   4.1e-12    1.2e-11     9.5e-13   9.8e-12    × 1.00000
f16    0.9983  0.9980   2.7e-7     1.5e-6      6.2e-8    1.3e-6     × 0.99997
bf16   0.9967  0.9863   1.7e-5     9.0e-5      3.9e-6    7.7e-5     × 0.99923
q8_0   0.9805  0.9185   5.1e-4     2.7e-3      1.2e-4    2.3e-3     × 0.99579
q5_1   0.9420  0.6450   7.5e-3     7.1e-2      1.7e-3    6.1e-2     × 1.02517
q5_0   0.9408  0.6104   1.1e-2     9.3e-2      2.4e-3    7.9e-2     × 1.00566
q4_1   0.8850  0.3931   2.9e-2     2.8e-1      6.6e-3    2.4e-1     × 0.99031
q4_0   0.8750  0.3481   3.6e-2     3.0e-1      8.2e-3    2.6e-1     × 0.94911
====== ======= ======== ========== =========== ========= ========== ===========

(llama.cpp computes with f16, bf16 and q8_0 *activations* where the weights have these types, so not even an exact copy
of bfloat16 weights gives the source's logits.)

The limits: 15 times the sample's mean KL and 50 times its lost information, at least 1e-5; 6.5 times its
disagreement on the first token, at least 0.005; a perplexity greater by 1.5 times the square root of its mean KL (an
average of log-probabilities moves in the first order of an error, KL in the second), at least 0.001. All are met by
the random models too. A tensor that is missing, permuted or scaled is usually far beyond them.
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
        lost_information: greatest mean KL as a share of the mean KL(source || uniform); it takes over where a source
            is so uncertain that no KL is large.
        perplexity_ratio: greatest perplexity of the file over that of the source.
    """

    top1_agreement: float
    mean_kl: float
    lost_information: float
    perplexity_ratio: float

    def exceeded_by(self, measured: Mapping[str, float]) -> list[str]:
        """The figures that are beyond their limits, each with its limit, in words.

        Args:
            measured: ``top1_agreement``, ``mean_kl``, ``lost_information``, ``source_perplexity`` and
                ``file_perplexity``.
        """
        kl, lost, top1 = (measured[name] for name in ("mean_kl", "lost_information", "top1_agreement"))
        source, file = measured["source_perplexity"], measured["file_perplexity"]
        excesses = {
            f"mean KL divergence {kl:.2g} nats, at most {self.mean_kl:g} expected": kl > self.mean_kl,
            f"{lost:.2%} of the source's information lost, at most {self.lost_information:.2%} expected": (
                lost > self.lost_information
            ),
            f"the source's most likely token at {top1:.1%} of positions, at least {self.top1_agreement:.1%} expected": (
                top1 < self.top1_agreement
            ),
            f"perplexity {file:.4g} against {source:.4g}, at most {self.perplexity_ratio:g} times expected": (
                file > source * self.perplexity_ratio
            ),
        }
        return [words for words, beyond in excesses.items() if beyond]


THRESHOLDS: Mapping[str, Thresholds] = {
    "f32": Thresholds(0.995, 1e-5, 1e-5, 1.001),
    "f16": Thresholds(0.989, 1e-5, 1e-5, 1.001),
    "bf16": Thresholds(0.978, 2.5e-4, 2e-4, 1.006),
    "q8_0": Thresholds(0.87, 8e-3, 6e-3, 1.034),
    "q5_1": Thresholds(0.62, 0.11, 0.085, 1.13),
    "q5_0": Thresholds(0.61, 0.16, 0.12, 1.15),
    "q4_1": Thresholds(0.25, 0.43, 0.33, 1.25),
    "q4_0": Thresholds(0.19, 0.53, 0.41, 1.28),
}


def thresholds_for(method: str) -> Thresholds:
    """The row of a method; where it has none, that of the next one with fewer bits per weight.

    Below the last row an error doubles with every bit that is missing, and KL with its square.

    Args:
        method: a name of ``converter.recipes.METHODS``.

    Raises:
        RecipeError: no such method.
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
        lost_information=min(0.9, row.lost_information * growth**2),
        perplexity_ratio=1 + (row.perplexity_ratio - 1) * growth,
    )


def bits_per_weight(method: str) -> float:
    return QUANT_TYPES[find_method(method).type].bits_per_weight
