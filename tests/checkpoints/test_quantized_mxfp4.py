"""MXFP4 against transformers' dequantization and ggml's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from converter.checkpoints import Checkpoint, Mxfp4Tensor
from converter.quants import ggml

Quantized = Callable[[Any, dict[str, torch.Tensor]], Checkpoint]
BASE = "layers.0.mlp.experts.down_proj"
METHOD = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}


def experts(*shape: int) -> dict[str, torch.Tensor]:
    """Codes of every kind, and exponents at which float32 still holds each product."""
    random = torch.Generator().manual_seed(1)
    blocks = torch.randint(0, 256, (*shape, 16), generator=random, dtype=torch.uint8)
    scales = torch.randint(0, 252, shape, generator=random, dtype=torch.uint8)
    return {f"{BASE}_blocks": blocks, f"{BASE}_scales": scales}


@pytest.mark.parametrize("shape", [(2, 6, 3), (3, 40, 90)], ids=str)
def test_weights_as_transformers_makes_them(
    quantized: Quantized, assert_reads: Callable[..., None], shape: tuple[int, ...]
) -> None:
    tensors = experts(*shape)
    with quantized(METHOD, {**tensors, f"{BASE}_bias": torch.ones(2, 6)}) as opened:
        assert set(opened.tensors) == {f"{BASE}.weight", f"{BASE}_bias"}
        made = convert_moe_packed_tensors(*tensors.values(), dtype=torch.float32)
        assert_reads(opened.tensors[f"{BASE}.weight"], made.transpose(1, 2))


def test_blocks_as_ggml_reads_them(quantized: Quantized) -> None:
    tensors = experts(2, 6, 3)
    with quantized(METHOD, tensors) as opened:
        tensor = opened.tensors[f"{BASE}.weight"]
        assert isinstance(tensor, Mxfp4Tensor)
        data = tensor.mxfp4_rows(0, 12)
        assert np.array_equal(tensor.mxfp4_rows(5, 8), data[5:8])
        expected = np.empty((12, 96), np.float32)
        ggml.dequantize(gguf.GGMLQuantizationType.MXFP4, data, expected)
        np.testing.assert_array_equal(tensor.read_rows(0, 12), expected)
        for run in [(-1, 2), (3, 13), (4, 3)]:
            with pytest.raises(IndexError):
                tensor.mxfp4_rows(*run)


def test_an_exponent_that_means_nan(quantized: Quantized) -> None:
    tensors = experts(1, 1, 2)
    tensors[f"{BASE}_scales"][0, 0, 1] = 255
    with quantized(METHOD, tensors) as opened:
        read = opened.tensors[f"{BASE}.weight"].read_rows(0, 1)
    assert np.isfinite(read[0, :32]).all()
    assert np.isnan(read[0, 32:]).all()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({f"{BASE}_scales": None}, f"has no {BASE}_scales beside it"),
        ({f"{BASE}_blocks": None}, f"has no {BASE}_blocks beside it"),
        ({f"{BASE}_scales": torch.zeros(2, 6, 4, dtype=torch.uint8)}, "expected (2, 6, 3)"),
        ({f"{BASE}_scales": torch.zeros(2, 6, 3)}, "is of type F32, expected U8"),
        ({f"{BASE}_blocks": torch.zeros(2, 6, 3, 8, dtype=torch.uint8)}, "expected (any, any, any, 16)"),
        ({f"{BASE}.weight": torch.zeros(1)}, "which is there too"),
    ],
)
def test_parts_that_do_not_fit(
    quantized: Quantized, refusal: Callable[..., str], change: dict[str, torch.Tensor | None], expected: str
) -> None:
    tensors = {name: tensor for name, tensor in {**experts(2, 6, 3), **change}.items() if tensor is not None}
    assert expected in refusal(quantized, METHOD, tensors)
