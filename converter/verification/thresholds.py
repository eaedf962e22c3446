"""How far a faithful file may be from its source, for each method.

Measured with the built-in passage on the sample model in ``tests/fixtures`` (1,536 positions), which is trained, and,
for the information lost, the worst of four models with random weights (2 to 22 layers, 2,048 positions each), which
amplify every rounding far more than a trained one:

====== ======= ======== ============ =====================
method top-1   mean KL  perplexity   information lost:
       agrees  (nats)   ratio        sample, random models
====== ======= ======== ============ =====================
f32    1.0000  4.9e-12  1.0000       1.1e-12  9.8e-12
f16    0.9987  2.2e-7   1.0000       5.0e-8   1.3e-6
bf16   0.9980  1.4e-5   1.0000       3.2e-6   7.7e-5
q8_0   0.9857  4.3e-4   0.9996       9.7e-5   2.3e-3
q5_1   0.9492  5.8e-3   1.0043       1.3e-3   6.1e-2
q5_0   0.9505  6.7e-3   1.0024       1.5e-3   7.9e-2
q4_1   0.9062  2.0e-2   0.9928       4.4e-3   2.4e-1
q4_0   0.8913  2.6e-2   1.0143       5.9e-3   2.6e-1
====== ======= ======== ============ =====================

Where weights are f16, bf16 or q8_0, llama.cpp rounds the activations that meet them as well, so not even an exact copy
of bfloat16 weights gives the source's very logits.

The limits are the sample's figures with a safety factor: 10 for the mean KL, 4 for disagreement on the first token,
and for the perplexity 1.5 times the square root of the mean KL (an average of log-probabilities moves in the first
order of an error, KL in the second); twice the worst random model for the information lost. Where the figure is near
zero, 1e-5 (3e-5 for f16, whose small weights become subnormal), 0.005 and 0.001. For comparison, an 8B Llama 3 has
2.7 to 3.6 times the sample's KL in q8_0 to q4_0 by the table in llama.cpp's ``tools/perplexity/README.md``.

Twenty damages to the sample, one tensor of its second layer or the last norm zeroed or turned end for end, are all
noticed in the f32, bf16 and q8_0 files, and in q4_0 all but three turned norms, which change less than the rounding
does.
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
            vocab_size: perplexity of guessing; a source not twice as good is untrained.
        """
        kl, lost, top1 = (measured[name] for name in ("mean_kl", "lost_information", "top1_agreement"))
        source, file = measured["source_perplexity"], measured["file_perplexity"]
        trained = source < vocab_size / 2
        excesses = {
            f"mean KL divergence {kl:.2g} nats, at most {self.mean_kl:g} expected": trained and kl > self.mean_kl,
            f"the source's most likely token at {top1:.1%} of positions, at least {self.top1_agreement:.1%} expected": (
                trained and top1 < self.top1_agreement
            ),
            f"{lost:.2g} of the source's information lost, at most {self.lost_information:g} expected": (
                not trained and lost > self.lost_information
            ),
            f"perplexity {file:.4g} against {source:.4g}, at most {self.perplexity_ratio:g} times expected": (
                file > source * self.perplexity_ratio
            ),
        }
        return [words for words, beyond in excesses.items() if beyond]


THRESHOLDS: Mapping[str, Thresholds] = {
    "f32": Thresholds(0.995, 1e-5, 1e-5, 1.001),
    "f16": Thresholds(0.995, 3e-5, 1e-5, 1.001),
    "bf16": Thresholds(0.992, 1.4e-4, 1.6e-4, 1.006),
    "q8_0": Thresholds(0.94, 4.3e-3, 5e-3, 1.03),
    "q5_1": Thresholds(0.80, 0.058, 0.12, 1.11),
    "q5_0": Thresholds(0.80, 0.067, 0.16, 1.12),
    "q4_1": Thresholds(0.62, 0.2, 0.48, 1.21),
    "q4_0": Thresholds(0.57, 0.26, 0.51, 1.24),
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
