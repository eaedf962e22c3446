"""Weights as torchao's tensors: the numbers of ggml's blocks, or torchao's own; the configuration as transformers'."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.errors import RecipeError
from converter.formats.pytorch_archive import TORCH_DTYPES
from converter.formats.torchao import INTX, IntxEncoding, quantization_config
from converter.quants import QUANT_TYPES, ggml
from converter.quants.encoding import WeightTooLarge


def difficult_rows() -> NDArray[np.float32]:
    """Rows of 96 with groups of zeros, of one sign, of equal, tiny, subnormal and large weights, and ties."""
    random = np.random.default_rng(5)
    rows = random.normal(size=(400, 96)).astype(np.float32)
    rows[0, :32] = 0
    rows[1] = np.abs(rows[1])
    rows[2] = -np.abs(rows[2])
    rows[3, :32], rows[3, 32:64] = 3.0, -3.0
    rows[4, 32:64] *= np.float32(1e-8)
    rows[5] *= np.float32(1e-41)
    rows[6] *= np.float32(1e4)
    rows[7] = np.round(rows[7] * 4) / 4
    rows[8:100] = random.integers(-8, 8, (92, 96))
    rows[100:120, ::7] = 0
    return rows


def planes(encoding: IntxEncoding, rows: NDArray[np.float32]) -> list[NDArray[np.generic]]:
    """The stored tensors of a matrix, each in its own type and shape."""
    stored = encoding.stored("layer.weight", rows.shape)
    encoded = encoding.encode(rows)
    assert [array.nbytes for array in encoded] == [one.nbytes(len(rows)) for one in stored]
    return [array.view(TORCH_DTYPES[one.dtype]).reshape(one.shape) for array, one in zip(encoded, stored, strict=True)]


@pytest.mark.parametrize("method", ["q4_0", "q5_0", "q8_0"])
def test_symmetric_weights_are_the_numbers_of_ggml_blocks(method: str) -> None:
    import torch
    from torchao.quantization import IntxUnpackedToInt8Tensor

    rows = difficult_rows()
    kind = QUANT_TYPES[method]
    blocks = np.empty((len(rows), kind.row_bytes(rows.shape[1])), np.uint8)
    ggml.quantize(kind.ggml_type, rows, blocks, None)
    expected = np.empty_like(rows)
    ggml.dequantize(kind.ggml_type, blocks, expected)

    encoding = INTX[method]
    parts = [torch.from_numpy(plane) for plane in planes(encoding, rows)]
    target = getattr(torch, encoding.weight_dtype)
    weight = IntxUnpackedToInt8Tensor(*parts, target, (1, 32), torch.float16, None).to(torch.float32)
    np.testing.assert_array_equal(weight.dequantize().numpy(), expected)
    exact = (parts[0].double().view(-1, 32) - parts[2].double().view(-1, 1)) * parts[1].double().view(-1, 1)
    np.testing.assert_array_equal(exact.numpy().reshape(rows.shape), expected.astype(np.float64))


@pytest.mark.parametrize("method", ["q4_1", "q5_1"])
def test_asymmetric_weights_are_those_of_torchao(method: str) -> None:
    import torch
    from torchao.quantization import IntxWeightOnlyConfig, MappingType, quantize_
    from torchao.quantization.granularity import PerGroup

    rows = difficult_rows()
    encoding = INTX[method]
    linear = torch.nn.Linear(rows.shape[1], len(rows), bias=False)
    linear.weight = torch.nn.Parameter(torch.from_numpy(rows))
    kind = getattr(torch, encoding.weight_dtype)
    quantize_(linear, IntxWeightOnlyConfig(kind, PerGroup(32), MappingType.ASYMMETRIC))
    weight = linear.weight.to(torch.float16)
    for plane, expected in zip(planes(encoding, rows), (weight.qdata, weight.scale, weight.zero_point), strict=True):
        np.testing.assert_array_equal(plane, expected.numpy())


@pytest.mark.parametrize("method", sorted(INTX))
def test_configuration_is_what_transformers_writes(method: str) -> None:
    import torch
    from torchao.quantization import IntxWeightOnlyConfig, MappingType
    from torchao.quantization.granularity import PerGroup
    from transformers import TorchAoConfig

    encoding = INTX[method]
    config = IntxWeightOnlyConfig(
        getattr(torch, encoding.weight_dtype), PerGroup(32), getattr(MappingType, encoding.mapping)
    )
    expected = TorchAoConfig(config, modules_to_not_convert=["lm_head"]).to_dict()
    assert quantization_config(encoding, ["lm_head"]) == expected


@pytest.mark.parametrize("method", ["q4_0", "q4_1"])
def test_weights_too_large_for_the_scale_are_counted(method: str) -> None:
    rows = np.zeros((2, 64), np.float32)
    rows[0, 5] = rows[1, 40] = 3e6
    with pytest.raises(WeightTooLarge) as raised:
        INTX[method].encode(rows)
    assert raised.value.count == 2


def test_rows_that_are_not_whole_groups_are_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"^a\.weight: rows of 40 weights are not a multiple of torchao's group of 32"
    ):
        INTX["q4_0"].stored("a.weight", (8, 40))


def test_parts_are_named_as_torchao_flattens_them() -> None:
    import torch
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
    from torchao.quantization import IntxUnpackedToInt8Tensor

    parts = [torch.from_numpy(plane) for plane in planes(INTX["q4_0"], np.zeros((4, 64), np.float32))]
    weight = IntxUnpackedToInt8Tensor(*parts, torch.int4, (1, 32), torch.float16, None)
    flat, _ = flatten_tensor_state_dict({"a.b.weight": weight})
    stored = INTX["q4_0"].stored("a.b.weight", (4, 64))
    assert [(one.name, TORCH_DTYPES[one.dtype], one.shape) for one in stored] == [
        (name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)) for name, tensor in flat.items()
    ]
