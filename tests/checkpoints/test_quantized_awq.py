"""AWQ against its definition, number by number, with words written in the order of its ``gemm`` kernels.

The same formula and packing as ``dequantize_gemm`` of AutoAWQ, whose result is rounded to float16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from converter.checkpoints import Checkpoint

Quantized = Callable[[Any, dict[str, torch.Tensor]], Checkpoint]
NAME = "layers.0.q_proj"
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def packed(codes: NDArray[np.int64]) -> torch.Tensor:
    words = np.zeros((codes.shape[0], codes.shape[1] // 8), np.uint32)
    for row, column in np.ndindex(words.shape):
        for place, index in enumerate(ORDER):
            words[row, column] |= np.uint32(codes[row, 8 * column + index] << 4 * place)
    return torch.from_numpy(words.view(np.int32))


def layer(rows: int, columns: int, size: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """A layer's tensors, and the weights they stand for."""
    random = np.random.default_rng(1)
    count = -(-columns // size)
    codes, zeros = random.integers(0, 16, (columns, rows)), random.integers(0, 16, (count, rows))
    scales = torch.from_numpy(random.random((count, rows)).astype(np.float16))
    weights = np.empty((rows, columns), np.float32)
    for row, column in np.ndindex(weights.shape):
        group = column // size
        weights[row, column] = np.float32(codes[column, row] - zeros[group, row]) * np.float32(scales[group, row])
    tensors = {"qweight": packed(codes), "qzeros": packed(zeros), "scales": scales}
    return {f"{NAME}.{name}": tensor for name, tensor in tensors.items()}, torch.from_numpy(weights)


def settings(size: int, **more: Any) -> dict[str, Any]:
    return {"quant_method": "awq", "bits": 4, "group_size": size, "zero_point": True, "version": "gemm", **more}


@pytest.mark.parametrize(("rows", "columns", "size"), [(16, 128, 32), (64, 96, -1), (40, 200, 64), (8, 600, 128)])
def test_groups_of_every_length(
    quantized: Quantized, assert_reads: Callable[..., None], rows: int, columns: int, size: int
) -> None:
    tensors, expected = layer(rows, columns, columns if size == -1 else size)
    with quantized(settings(size), {**tensors, "norm.weight": torch.ones(4)}) as read:
        assert set(read.tensors) == {f"{NAME}.weight", "norm.weight"}
        assert_reads(read.tensors[f"{NAME}.weight"], expected)


def test_several_windows(quantized: Quantized) -> None:
    random = np.random.default_rng(2)
    rows, columns, size = 304, 4096, 128
    words = torch.from_numpy(random.integers(-(2**31), 2**31, (columns, rows // 8), dtype=np.int32))
    zeros = torch.from_numpy(random.integers(-(2**31), 2**31, (columns // size, rows // 8), dtype=np.int32))
    scales = torch.from_numpy(random.random((columns // size, rows)).astype(np.float16))
    place = torch.tensor([ORDER.index(column) for column in range(8)])

    def codes(stored: torch.Tensor) -> torch.Tensor:
        return (stored[:, :, None] >> 4 * place & 15).reshape(len(stored), rows)

    expected = (codes(words) - codes(zeros).repeat_interleave(size, 0)).float()
    expected *= scales.float().repeat_interleave(size, 0)
    tensors = {f"{NAME}.qweight": words, f"{NAME}.qzeros": zeros, f"{NAME}.scales": scales}
    with quantized(settings(size), tensors) as read:
        for start, stop in [(0, rows), (5, 250), (77, 78)]:
            found = read.tensors[f"{NAME}.weight"].read_rows(start, stop)
            np.testing.assert_array_equal(found, expected.T[start:stop].numpy())


@pytest.mark.parametrize(
    ("name", "replacement", "expected"),
    [
        ("qzeros", None, "has no"),
        ("scales", None, "has no"),
        ("qweight", None, f"has no {NAME}.qweight beside it"),
        ("qzeros", torch.zeros(4, 3, dtype=torch.int32), "expected (4, 2)"),
        ("scales", torch.zeros(4, 8), "expected (4, 16)"),
        ("weight", torch.zeros(16, 128), "which is there too"),
    ],
)
def test_parts_that_do_not_fit(
    quantized: Quantized, refusal: Callable[..., str], name: str, replacement: torch.Tensor | None, expected: str
) -> None:
    tensors, _ = layer(16, 128, 32)
    tensors.pop(f"{NAME}.{name}", None)
    if replacement is not None:
        tensors[f"{NAME}.{name}"] = replacement
    assert expected in refusal(quantized, settings(32), tensors)


@pytest.mark.parametrize(
    "change", [{"bits": 8}, {"version": "gemv"}, {"zero_point": False}, {"backend": "llm-awq"}, {"group_size": "1"}],
    ids=str,
)  # fmt: skip
def test_settings_that_are_not_read(quantized: Quantized, refusal: Callable[..., str], change: dict[str, Any]) -> None:
    message = refusal(quantized, {**settings(32), **change}, {"x": torch.ones(1)})
    assert next(iter(change)) in message
    assert repr(next(iter(change.values()))) in message
