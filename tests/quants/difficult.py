"""Difficult rows and importances, for tests of kernels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Kind = Callable[[np.random.Generator], Floats]

ROW = 512  # two super-blocks of 256, sixteen blocks of 32
FLOAT32 = np.finfo(np.float32)


def normal(rng: np.random.Generator) -> Floats:
    return (rng.standard_normal(ROW) * 0.02).astype(np.float32)


def heavy_tailed(rng: np.random.Generator) -> Floats:
    return rng.standard_t(1.2, ROW).astype(np.float32)


def constant(rng: np.random.Generator) -> Floats:
    return np.full(ROW, rng.standard_normal(), np.float32)


def zero(rng: np.random.Generator) -> Floats:
    return np.zeros(ROW, np.float32)


def signed_zero(rng: np.random.Generator) -> Floats:
    return rng.choice(np.array([0.0, -0.0], np.float32), ROW)


def signed_tie(rng: np.random.Generator) -> Floats:
    """The largest magnitude occurs with both signs: the first one decides the sign of the scale."""
    return rng.choice(np.array([-1.5, 1.5, 0.3, -0.0], np.float32), ROW)


def few_values(rng: np.random.Generator) -> Floats:
    """Multiples of a step: quotients fall exactly on the halves where rounding decides."""
    return rng.integers(-16, 17, ROW).astype(np.float32) * np.float32(0.5 ** rng.integers(0, 20))


def halves_of_q8_0(rng: np.random.Generator) -> Floats:
    """Largest value 127, so that the scale is 1, and every other value beside a half."""
    row = rng.integers(-126, 127, ROW).astype(np.float32) + np.float32(0.5)
    row = np.nextafter(row, rng.choice(np.array([-np.inf, 0, np.inf], np.float32), ROW)).astype(np.float32)
    row[::32] = 127
    return row


def halves_of_iq4(rng: np.random.Generator) -> Floats:
    """Largest value -127, which is the first of the table, and every other on a value or a middle between two."""
    row = rng.integers(-253, 254, ROW).astype(np.float32) / np.float32(2)
    row[::32] = -127
    return row * np.float32(0.5 ** rng.integers(0, 20))


def beside_powers_of_two(rng: np.random.Generator) -> Floats:
    """The largest of each block is up to 500 units in the last place beside a power of two."""
    row = (normal(rng) + np.float32(0.5)).reshape(-1, 32)
    peaks = (rng.integers(1, 254, ROW // 32) << 23) + rng.integers(-500, 500, ROW // 32)
    scale = peaks.astype(np.uint32).view(np.float32)
    row = row * np.minimum(scale, np.float32(1e37))[:, np.newaxis]
    row[:, 5] = scale
    return row.reshape(-1)


def single(rng: np.random.Generator) -> Floats:
    row = np.zeros(ROW, np.float32)
    row[rng.integers(0, ROW, 5)] = rng.standard_normal(5)
    return row


def positive(rng: np.random.Generator) -> Floats:
    return np.abs(normal(rng)) + np.float32(1)


def mixed_scales(rng: np.random.Generator) -> Floats:
    return (rng.standard_normal(ROW) * np.repeat(10.0 ** rng.uniform(-12, 3, ROW // 16), 16)).astype(np.float32)


def half_denormal(rng: np.random.Generator) -> Floats:
    return (rng.standard_normal(ROW) * 10.0 ** rng.uniform(-9, -4)).astype(np.float32)


def denormal(rng: np.random.Generator) -> Floats:
    return rng.integers(-40, 41, ROW).astype(np.float32) * FLOAT32.smallest_subnormal


def tiny(rng: np.random.Generator) -> Floats:
    """Around the smallest normal numbers: reciprocals of scales overflow, half-precision scales vanish."""
    return (rng.standard_normal(ROW) * 10.0 ** rng.uniform(-42, -30)).astype(np.float32)


def half_overflow(rng: np.random.Generator) -> Floats:
    return (rng.standard_normal(ROW) * 10.0 ** rng.uniform(4, 7)).astype(np.float32)


def huge(rng: np.random.Generator) -> Floats:
    return (rng.uniform(-1, 1, ROW) * float(FLOAT32.max)).astype(np.float32)


def largest(rng: np.random.Generator) -> Floats:
    """Differences overflow to infinity."""
    return rng.choice(np.array([FLOAT32.max, -FLOAT32.max, 0, 1], np.float32), ROW)


def any_bits(rng: np.random.Generator) -> Floats:
    row = rng.integers(0, 2**32, ROW, np.uint32).view(np.float32)
    return np.where(np.isfinite(row), row, np.float32(1))


MODEST: tuple[Kind, ...] = (
    normal, heavy_tailed, constant, zero, signed_zero, signed_tie, few_values, halves_of_q8_0, halves_of_iq4, single,
    positive, mixed_scales, half_denormal,
)  # fmt: skip
EXTREME: tuple[Kind, ...] = (denormal, tiny, beside_powers_of_two, half_overflow, huge, largest, any_bits)


def matrices(kinds: tuple[Kind, ...]) -> st.SearchStrategy[Floats]:
    """float32 (1 to 24, ROW), each row of one of ``kinds``."""

    def build(chosen: list[Kind], seed: int) -> Floats:
        rng = np.random.default_rng(seed)
        return np.stack([kind(rng) for kind in chosen])

    return st.builds(build, st.lists(st.sampled_from(kinds), min_size=1, max_size=24), st.integers(0, 2**32 - 1))


invented = arrays(np.float32, (1, ROW), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))


def even(rng: np.random.Generator) -> Floats:
    return rng.uniform(0.1, 2, ROW).astype(np.float32)


def mean_activations(rng: np.random.Generator) -> Floats:
    """As collected from a model: squares of heavy-tailed numbers, some columns never active."""
    return (rng.standard_t(2, ROW) ** 2 * (rng.random(ROW) > 0.1)).astype(np.float32)


def mostly_zero(rng: np.random.Generator) -> Floats:
    return np.where(rng.random(ROW) < 0.05, even(rng), np.float32(0))


def no_importance(rng: np.random.Generator) -> Floats:
    return np.zeros(ROW, np.float32)


def counts(rng: np.random.Generator) -> Floats:
    return rng.integers(0, 4, ROW).astype(np.float32)


def tiny_importance(rng: np.random.Generator) -> Floats:
    return (even(rng) * 10.0 ** rng.uniform(-42, -20)).astype(np.float32)


def huge_importance(rng: np.random.Generator) -> Floats:
    """Sums of products overflow, and scales become infinite."""
    return (even(rng) * 10.0 ** rng.uniform(28, 36)).astype(np.float32)


def of_any_size(rng: np.random.Generator) -> Floats:
    return np.abs(any_bits(rng))


IMPORTANCE: tuple[Kind, ...] = (
    even,
    mean_activations,
    mostly_zero,
    no_importance,
    counts,
    tiny_importance,
    huge_importance,
    of_any_size,
)
importances = st.builds(
    lambda kind, seed: kind(np.random.default_rng(seed)), st.sampled_from(IMPORTANCE), st.integers(0, 2**32 - 1)
)
