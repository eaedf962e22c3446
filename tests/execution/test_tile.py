"""A tile's rows, however its pieces select, transpose and transform them, against the same surgery in numpy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from converter.architectures.target import Operation, Piece, RowMap, TargetTensor, rotary_pairs, row_run
from converter.checkpoints.tensor import SourceTensor
from converter.errors import ConversionError
from converter.execution.tile import NotFinite, describe_not_finite, encode_tile, read_tile
from converter.plan import Plan, Tile, lay_out


@dataclass(frozen=True)
class ArrayTensor(SourceTensor):
    """A source tensor in memory."""

    array: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    def read_rows(self, start, stop, columns=None, out=None):  # type: ignore[no-untyped-def]
        matrix = self.array.reshape(self.rows, self.row_length)
        return np.ascontiguousarray(matrix[start:stop, columns or slice(None)])


def source(name: str, *shape: int) -> ArrayTensor:
    array = np.random.default_rng(len(name)).standard_normal(shape, np.float32)
    return ArrayTensor(name, "F32", shape, array)


def whole(
    target: TargetTensor, *sources: ArrayTensor, step: int = 3, load_dtype: str | None = None
) -> NDArray[np.float32]:
    """The target's rows, read tile by tile."""
    plan = lay_out([], [target], ["f32"], load_dtype=load_dtype)
    names = {tensor.name: tensor for tensor in sources}
    tiles = [Tile(0, start, min(start + step, target.rows)) for start in range(0, target.rows, step)]
    return np.concatenate([read_tile(plan, tile, names) for tile in tiles]).reshape(target.shape)


@given(st.integers(1, 3), st.sampled_from([2, 4, 8]), st.integers(1, 7))
def test_rotary_rows(heads: int, head_dim: int, step: int) -> None:
    weights = source("q", heads * head_dim, 5)
    target = TargetTensor("t", (heads * head_dim, 5), (Piece("q", rotary_pairs(heads, head_dim)),))
    expected = weights.array.reshape(heads, 2, head_dim // 2, 5).swapaxes(1, 2).reshape(-1, 5)
    assert np.array_equal(whole(target, weights, step=step), expected)


def test_fused_projection_is_cut_and_experts_are_stacked() -> None:
    fused = source("qkv", 4 * 3 * 2, 6)
    heads = fused.array.reshape(4, 3, 2, 6)
    keys = TargetTensor("k", (8, 6), (Piece("qkv", RowMap(2, ((4, 6), (2, 1)))),))
    assert np.array_equal(whole(keys, fused), heads[:, 1].reshape(8, 6))
    halves = TargetTensor("t", (14, 6), (Piece("qkv", row_run(10, 14)),))
    assert np.array_equal(whole(halves, fused), fused.array[10:])
    experts = [source(f"expert {'x' * number}", 4, 6) for number in range(3)]
    stacked = TargetTensor("e", (3, 4, 6), tuple(Piece(expert.name) for expert in experts))
    assert np.array_equal(whole(stacked, *experts), np.stack([expert.array for expert in experts]))


def test_transposed_operated_and_computed() -> None:
    weights = source("conv", 6, 9)
    target = TargetTensor("t", (9, 6), (Piece("conv", transposed=True),))
    assert np.array_equal(whole(target, weights), weights.array.T)
    part = TargetTensor("t", (3, 6), (Piece("conv", row_run(3, 3), transposed=True),))
    assert np.array_equal(whole(part, weights, step=2), weights.array.T[3:6])
    heads = tuple(Piece("conv", transposed=True, within=(2 * head, 2)) for head in range(3))
    expected = weights.array.reshape(3, 2, 9).swapaxes(1, 2)
    assert np.array_equal(whole(TargetTensor("t", (3, 9, 2), heads), weights, step=4), expected)
    norm = source("norm", 7)
    one_more = TargetTensor("t", (7,), (Piece("norm", operation=Operation("add", 1.0)),))
    assert np.array_equal(whole(one_more, norm), norm.array + 1)
    grouped = source("groups", 12)
    groups = TargetTensor("t", (3, 4), (Piece("groups"),))
    assert np.array_equal(whole(groups, grouped, step=2), grouped.array.reshape(3, 4))
    decay = TargetTensor("t", (7,), (Piece("norm", operation=Operation("negated exponential")),))
    assert np.array_equal(whole(decay, norm), -np.exp(norm.array))
    weights.array[2] = 0
    unit = whole(TargetTensor("t", (6, 9), (Piece("conv", operation=Operation("unit length")),)), weights, step=4)
    assert np.allclose(np.linalg.norm(unit, axis=1), [1, 1, 0, 1, 1, 1])
    assert np.allclose(unit[5] * np.linalg.norm(weights.array[5]), weights.array[5])
    assert np.array_equal(whole(TargetTensor("t", (3,), values=(1.0, 2.0, 4.0))), [1, 2, 4])


def test_load_dtype_rounds_the_source_first() -> None:
    weights = source("w", 4, 32)
    target = TargetTensor("t", (4, 32), (Piece("w"),))
    assert np.array_equal(whole(target, weights, load_dtype="f16"), weights.array.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_noticed_and_counted(bad: float) -> None:
    weights = source("w", 4, 32)
    weights.array[1, 3] = weights.array[3, 31] = bad
    plan = lay_out([], [TargetTensor("t", (4, 32), (Piece("w"),))], ["q8_0"])
    with pytest.raises(NotFinite):
        encode_tile(plan, Tile(0, 0, 4), {"w": weights})
    counts = "2 NaN and 0 infinite" if np.isnan(bad) else "0 NaN and 2 infinite"
    assert describe_not_finite(weights) == (
        f"w: {counts} weights of 128; the checkpoint is damaged, download or export it again"
    )


@pytest.mark.parametrize(("kind", "limit"), [("f16", 65504.0), ("q8_0", 65504.0 * 127), ("q4_0", 65504.0 * 8)])
def test_a_weight_too_large_for_the_type_is_refused(kind: str, limit: float) -> None:
    weights = source("w", 2, 32)
    weights.array[1, 3] = limit * 1.01
    plan: Plan = lay_out([], [TargetTensor("t", (2, 32), (Piece("w"),))], [kind])
    with pytest.raises(ConversionError, match=rf"^t: 1 weights or scales .* {kind} relies; use --method bf16 or f32$"):
        encode_tile(plan, Tile(0, 0, 2), {"w": weights})


def test_elements_out_of_rows_of_another_length() -> None:
    biases = source("biases", 3, 8)
    gates, ups = (TargetTensor("t", (3, 4), (Piece("biases", RowMap(first, ((3, 8), (4, 2)))),)) for first in (0, 1))
    assert np.array_equal(whole(gates, biases, step=2), biases.array[:, ::2])
    assert np.array_equal(whole(ups, biases, step=2), biases.array[:, 1::2])
