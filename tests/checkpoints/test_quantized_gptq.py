"""GPTQ against its definition, number by number; its words are written here as one long integer per column.

The same formula and packing as ``dequantize_weight`` of GPTQModel and the kernels of AutoGPTQ.
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


def bit_string(codes: list[int], bits: int) -> list[int]:
    """Codes one behind the other from the lowest bit on, cut into signed words of 32 bits."""
    joined = sum(int(code) << (bits * index) for index, code in enumerate(codes))
    words = [joined >> (32 * index) & 0xFFFFFFFF for index in range(-(-len(codes) * bits // 32))]
    return [word - 2**32 if word >= 2**31 else word for word in words]


def packed(codes: NDArray[np.int64], bits: int) -> torch.Tensor:
    """Each row as a bit string."""
    return torch.tensor([bit_string(row.tolist(), bits) for row in codes], dtype=torch.int32)


def layer(
    bits: int, rows: int, columns: int, size: int, *, ordered: bool = False, less_one: bool = True
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """A layer's tensors, and the weights they stand for."""
    random = np.random.default_rng(1)
    count = -(-columns // size)
    codes = random.integers(0, 2**bits, (columns, rows))
    zeros = random.integers(1 if less_one else 0, 2**bits, (count, rows))
    scales = torch.from_numpy(random.random((count, rows)).astype(np.float16))
    group = np.arange(columns) // size
    if ordered:
        random.shuffle(group)
    weights = np.empty((rows, columns), np.float32)
    for row in range(rows):
        for column in range(columns):
            step = np.float32(scales[group[column], row])
            weights[row, column] = step * np.float32(codes[column, row] - zeros[group[column], row])
    tensors = {
        "qweight": packed(codes.T, bits).T, "qzeros": packed(zeros - less_one, bits), "scales": scales,
        "g_idx": torch.from_numpy(group.astype(np.int32)),
    }  # fmt: skip
    return {f"{NAME}.{name}": tensor for name, tensor in tensors.items()}, torch.from_numpy(weights)


def settings(bits: int, size: int, **more: Any) -> dict[str, Any]:
    return {"quant_method": "gptq", "bits": bits, "group_size": size, "desc_act": False, "sym": False, **more}


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("ordered", [False, True], ids=["in order", "act-order"])
@pytest.mark.parametrize("version", ["gptq", "gptq_v2", None])
def test_every_width(
    quantized: Quantized, assert_reads: Callable[..., None], bits: int, ordered: bool, version: str | None
) -> None:
    tensors, expected = layer(bits, 32, 128, 32, ordered=ordered, less_one=version != "gptq_v2")
    chosen = {} if version is None else {"checkpoint_format": version}
    with quantized(settings(bits, 32, desc_act=ordered, **chosen), {**tensors, f"{NAME}.bias": torch.ones(64)}) as read:
        assert set(read.tensors) == {f"{NAME}.weight", f"{NAME}.bias"}
        assert read.tensors[f"{NAME}.weight"].nbytes == sum(tensor.nbytes for tensor in tensors.values())
        assert_reads(read.tensors[f"{NAME}.weight"], expected)


@pytest.mark.parametrize(("rows", "columns", "size"), [(64, 96, -1), (40, 160, 64), (96, 1024, 128), (8, 32, 32)])
def test_groups_of_every_length(
    quantized: Quantized, assert_reads: Callable[..., None], rows: int, columns: int, size: int
) -> None:
    tensors, expected = layer(4, rows, columns, columns if size == -1 else size)
    with quantized(settings(4, size), tensors) as read:
        assert_reads(read.tensors[f"{NAME}.weight"], expected)


def test_rows_far_apart(quantized: Quantized) -> None:
    """A matrix so wide that the codes of some rows are read span by span, and several windows high."""
    random = np.random.default_rng(2)
    rows, columns = 20_000, 2048
    words = torch.from_numpy(random.integers(-(2**31), 2**31, (columns // 8, rows), dtype=np.int32))
    zeros = torch.from_numpy(random.integers(-(2**31), 2**31, (columns // 128, rows // 8), dtype=np.int32))
    scales = torch.from_numpy(random.random((columns // 128, rows)).astype(np.float16))
    tensors = {f"{NAME}.qweight": words, f"{NAME}.qzeros": zeros, f"{NAME}.scales": scales}
    shifts = torch.arange(0, 32, 4)
    start, stop = 9_999, 10_300
    codes = (words[:, None, start:stop] >> shifts[:, None] & 15).reshape(columns, -1).T
    offsets = (zeros[:, :, None] >> shifts & 15).reshape(-1, rows)[:, start:stop].T.repeat_interleave(128, 1)
    steps = scales[:, start:stop].T.float().repeat_interleave(128, 1)
    with quantized(settings(4, 128, format="gptq_v2"), tensors) as read:
        found = read.tensors[f"{NAME}.weight"].read_rows(start, stop)
    np.testing.assert_array_equal(found, ((codes - offsets).float() * steps).numpy())


def test_zero_points_of_zero_that_borrowed(quantized: Quantized, assert_reads: Callable[..., None]) -> None:
    """Stored less one, word by word: a zero point of 0 takes its one from the next."""
    tensors, _ = layer(4, 16, 32, 32)
    zeros = np.array([[3, 0, 0, 7, 15, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0, 1]])
    words = packed(zeros, 4).numpy().view(np.uint32) - np.uint32(0x11111111)
    tensors[f"{NAME}.qzeros"] = torch.from_numpy(words.view(np.int32))
    codes = tensors[f"{NAME}.qweight"].T[:, :, None] >> torch.arange(0, 32, 4) & 15
    expected = (codes.reshape(16, 32) - torch.from_numpy(zeros.T)).float() * tensors[f"{NAME}.scales"].T.float()
    with quantized(settings(4, 32), tensors) as read:
        assert_reads(read.tensors[f"{NAME}.weight"], expected)


def test_biases_of_zeros_where_every_layer_has_one(quantized: Quantized) -> None:
    """AutoGPTQ wrote them for layers without a bias. One layer without shows that another exporter wrote the rest."""
    one, _ = layer(4, 32, 128, 32)
    two = {name.replace("q_proj", "k_proj"): tensor for name, tensor in one.items()}
    biases = {f"{NAME}.bias": torch.zeros(32), "layers.0.k_proj.bias": torch.ones(32)}
    weights = {f"{NAME}.weight", "layers.0.k_proj.weight"}
    with quantized(settings(4, 32), {**one, **two, **biases}) as read:
        assert set(read.tensors) == {*weights, "layers.0.k_proj.bias"}
    del biases["layers.0.k_proj.bias"]
    with quantized(settings(4, 32), {**one, **two, **biases}) as read:
        assert set(read.tensors) == {*weights, f"{NAME}.bias"}


@pytest.mark.parametrize(
    ("name", "replacement", "expected"),
    [
        ("qzeros", None, "has no"),
        ("scales", None, "has no"),
        ("g_idx", None, "has no"),
        ("qweight", None, f"has no {NAME}.qweight beside it"),
        ("qzeros", torch.zeros(4, 3, dtype=torch.int32), "expected (4, 4)"),
        ("scales", torch.zeros(4, 16), "expected (4, 32)"),
        ("g_idx", torch.zeros(64, dtype=torch.int32), "expected (128)"),
        ("qweight", torch.zeros(16, 32, dtype=torch.int64), "is of type I64, expected I32"),
        ("qweight", torch.zeros(0, 32, dtype=torch.int32), "expected (0, 32)"),
        ("weight", torch.zeros(32, 128), "which is there too"),
    ],
)
def test_parts_that_do_not_fit(
    quantized: Quantized, refusal: Callable[..., str], name: str, replacement: torch.Tensor | None, expected: str
) -> None:
    tensors, _ = layer(4, 32, 128, 32)
    tensors.pop(f"{NAME}.{name}", None)
    if replacement is not None:
        tensors[f"{NAME}.{name}"] = replacement
    assert expected in refusal(quantized, settings(4, 32, desc_act=True), tensors)


def test_words_that_bits_do_not_fill(quantized: Quantized, refusal: Callable[..., str]) -> None:
    tensors, _ = layer(3, 32, 128, 32)
    tensors[f"{NAME}.qweight"] = torch.zeros(11, 32, dtype=torch.int32)
    tensors[f"{NAME}.g_idx"] = torch.zeros(117, dtype=torch.int32)
    assert "which 3 bits do not fill" in refusal(quantized, settings(3, 32), tensors)


@pytest.mark.parametrize("wrong", [-1, 4])
def test_groups_that_do_not_exist(quantized: Quantized, refusal: Callable[..., str], wrong: int) -> None:
    tensors, _ = layer(4, 32, 128, 32)
    other = {name.replace("q_proj", "v_proj"): tensor.clone() for name, tensor in tensors.items()}
    other["layers.0.v_proj.g_idx"][5] = wrong
    with quantized(settings(4, 32), {**tensors, **other}) as read:
        assert f"names group {wrong}, expected 0 to 3" in refusal(
            read.tensors["layers.0.v_proj.weight"].read_rows, 0, 1
        )


@pytest.mark.parametrize(
    "change",
    [{"bits": 5}, {"bits": None}, {"checkpoint_format": "marlin"}, {"format": "bitblas"}, {"desc_act": "yes"},
     {"group_size": 0}, {"group_size": None}],
    ids=str,
)  # fmt: skip
def test_settings_that_are_not_read(quantized: Quantized, refusal: Callable[..., str], change: dict[str, Any]) -> None:
    message = refusal(quantized, {**settings(4, 32), **change}, {"x": torch.ones(1)})
    assert next(iter(change)) in message
    assert repr(next(iter(change.values()))) in message
